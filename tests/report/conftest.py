"""What the report tests share: records of made-up studies, without a database or a model."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from layersearch.pattern import PartCounts
from layersearch.search.purpose import Purpose
from layersearch.search.record import Record
from layersearch.search.trials import Confirmed, Row, front_of
from layersearch.space_files import load

LAYERS = 12
COUNTS = PartCounts(fixed=24_000_000, attention=(2_360_000,) * LAYERS, ffn=(4_720_000,) * LAYERS)


def make_record(space: str, trials: int, *, confirmed: bool = True) -> Record:
    """A study of `trials` random patterns of a shipped space, larger ones better; the unchanged model is trial 0."""
    rng = random.Random(0)
    searched = load(space)
    drawn = [*searched.start_points(LAYERS)[:3], *(searched.sample(LAYERS, rng) for _ in range(trials))]
    rows = []
    for number, pattern in enumerate(list(dict.fromkeys(drawn))[:trials]):
        size = pattern.parameters(COUNTS)
        score = 0.9 * (size / COUNTS.total) ** 0.5 + rng.gauss(0, 0.02)
        rows.append(
            Row(
                number=number,
                state="COMPLETE",
                pattern=str(pattern),
                seed=0,
                score=score,
                interval=(score - 0.02, score + 0.02),
                parameters=size,
                train_seconds=31.4,
            )
        )
    front = front_of(rows, "maximize") if confirmed else []
    return Record(
        name=f"bert-mrpc-{space}",
        purpose=Purpose({}, "accuracy", "maximize"),
        facts={"num_layers": LAYERS, "parameters": COUNTS.total},
        rows=tuple(rows),
        confirmed={r.pattern: Confirmed(r.pattern, (1, 2), (0.5, 0.6), 0.55, 0.07) for r in front},
    )


@pytest.fixture
def record() -> Record:
    return make_record("layers", 40)


@pytest.fixture
def by_macs() -> Record:
    """A search for few MACs: by these trial 3 is behind 1, by parameters behind 2; trial 4 is over the limit."""
    found = (("0-11", 100, 100, 0.9), ("0-5", 90, 80, 0.85), ("0-4", 60, 40, 0.7), ("1-5", 70, 85, 0.84))
    rows = [
        Row(n, "COMPLETE", pattern, 0, score=score, parameters=size, costs=(macs * 1e6,), interval=(score - 0.03, 0.95))
        for n, (pattern, size, macs, score) in enumerate(found)
    ]
    over = replace(rows[1], number=4, pattern="6-11", over={"macs": 0.2, "parameters": -0.1, "score": 0.01})
    purpose = Purpose({"objectives": "macs", "limits": "--max-macs 60%"}, "accuracy", "maximize")
    return Record("s", purpose, {"num_layers": LAYERS, "parameters": 100}, (*rows, over), {})


@pytest.fixture
def halves() -> Record:
    """Patterns with long names, close together."""
    return make_record("halves", 120)
