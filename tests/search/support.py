"""Studies without models: real storage, real sampler, scores that follow from the pattern."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from layersearch.errors import StudyError
from layersearch.pattern import PartCounts, Pattern
from layersearch.search.lease import take_lease
from layersearch.search.objectives import Costs
from layersearch.search.purpose import Purpose
from layersearch.search.screen import Parameters
from layersearch.search.storage import open_storage, parse_url
from layersearch.search.study import Study
from layersearch.search_space import SearchSpace
from layersearch.training.job import Job, Outcome

LAYERS = 4
COUNTS = PartCounts(fixed=1000, attention=(40,) * LAYERS, ffn=(60,) * LAYERS)
SPACE = SearchSpace(choices=("keep", "drop"), start=("top", "bottom"))


def purpose(**values: object) -> Purpose:
    """What the test studies are for; `values` change it."""
    return Purpose(
        {"revision": "r1", "space": SPACE.canonical(), "sampler": "NSGAIISampler", **values}, "acc", "maximize"
    )


def open_study(
    storage: str,
    folder: Path,
    name: str = "s",
    *,
    wanted: Purpose | None = None,
    space: SearchSpace | None = SPACE,
    say: Callable[[str], None] = lambda _: None,
    sampler: str = "NSGAIISampler",
    alone: bool = False,
    parameters: Parameters | None = None,
    costs: Costs | None = None,
) -> Study:
    """Open a study as `run` does; closed after the test."""
    url = parse_url(storage)
    database = open_storage(url, say, create=True)
    try:
        lease = take_lease(database, url, name, "the test", alone=alone)
    except StudyError:
        database.engine.dispose()
        raise
    study = Study(
        database,
        name,
        wanted or purpose(),
        lease,
        folder / name,
        num_layers=LAYERS,
        space=space,
        sampler=sampler,
        parameters=parameters,
        costs=costs,
    )
    opened.append(study)
    study.heal()
    return study


opened: list[Study] = []


def close_all() -> None:
    """Give every lease back and close every connection (tests/search/conftest.py calls it after each test)."""
    while opened:
        study = opened.pop()
        study._lease.release()
        study._study._storage._backend.engine.dispose()  # type: ignore[attr-defined]


def outcome_of(job: Job) -> Outcome:
    """A finished outcome: more layers score higher, early layers more."""
    pattern = Pattern.parse(job.pattern)
    score = 0.5 + sum(0.08 - 0.01 * block.layer for block in pattern.blocks)
    return Outcome(
        job.number,
        job.pattern,
        job.seed,
        score=score,
        interval=(score - 0.05, score + 0.05),
        metrics={"acc": score},
        parameters=pattern.parameters(COUNTS),
        seconds=1.0,
        train_seconds=0.8,
        score_seconds=0.1,
    )
