"""Limits and further objectives in a study: what is never trained, what the front holds, what Optuna is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.errors import TrainingError
from layersearch.pattern import PartCounts, Pattern
from layersearch.report.console import Progress
from layersearch.search.driver import Driver
from layersearch.search.objectives import SCORE, Costs, parse_limit
from layersearch.search.purpose import Purpose
from layersearch.search.screen import hopeless
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.training.job import Outcome
from tests.search.support import COUNTS, LAYERS, SPACE, open_study, outcome_of, purpose

MACS = PartCounts(5, (10,) * LAYERS, (30, 1, 1, 1))
FULL = "0-3"


def costs(*limits: tuple[str, str], objectives: tuple[str, ...] = ("parameters",)) -> Costs:
    parts = {"parameters": COUNTS, "macs": MACS}
    return Costs(parts, objectives, tuple(parse_limit(of, text) for of, text in limits))


def search(folder: Path, wanted: Costs, *, sampler: str = "NSGAIISampler") -> Study:
    named = {} if wanted.objectives == ("parameters",) else {"objectives": ",".join(wanted.objectives)}
    limits = {"limits": " ".join(limit.option for limit in wanted.limits)}
    return open_study(
        f"{folder}/db",
        folder,
        wanted=purpose(**named, **limits),
        sampler=sampler,
        costs=wanted,
    )


def work_off(study: Study) -> list[str]:
    """The patterns that were handed out, each with its made-up outcome told."""
    out = []
    while (job := study.ask()) is not None:
        out.append(job.pattern)
        study.tell(outcome_of(job))
    return out


@pytest.mark.parametrize("sampler", ["NSGAIISampler", "TPESampler", "PatternSampler"])
def test_what_is_over_a_limit_is_never_trained(tmp_path: Path, sampler: str) -> None:
    wanted = costs(("parameters", "1250"), ("macs", "40%"))
    study = search(tmp_path, wanted, sampler=sampler)
    out = work_off(study)
    within = {str(pattern) for pattern in SPACE.patterns(LAYERS) if wanted.allows(pattern)}
    assert out[0] == FULL
    assert set(out) == {FULL, *within}
    assert len(out) == len(set(out))
    refused = [row for row in study.rows() if row.state == "PRUNED" and "over a limit" in (row.reason or "")]
    assert all(row.over and not row.allowed for row in refused)


def test_the_front_keeps_the_limits_and_optuna_knows_them(tmp_path: Path) -> None:
    study = search(tmp_path, costs(("parameters", "1250")))
    work_off(study)
    assert FULL not in {row.pattern for row in study.front()}
    assert all(row.parameters is not None and row.parameters <= 1250 for row in study.front())
    theirs = {(t.user_attrs["pattern"], *t.values) for t in study._study.best_trials}
    assert {(row.pattern, row.score, float(row.parameters or 0)) for row in study.front()} == theirs


def test_a_least_score_is_a_share_of_the_unchanged_models(tmp_path: Path) -> None:
    study = search(tmp_path, costs((SCORE, "90%")))
    unchanged = study.ask()
    assert unchanged is not None
    assert study.ask() is None  # the rest cannot be judged before it
    driver = Driver(study, 10, Progress())  # another one
    assert (driver.next_job(), driver.done) == (None, False)
    study.tell(outcome_of(unchanged))
    work_off(study)
    assert {row.pattern: row.score for row in study.front()} == pytest.approx({"0-3": 0.76, "0-2": 0.71})
    assert {row.pattern for row in study.rows() if row.allowed} >= {"0-3", "0-2", "0-1 3", "0 2-3"}


def test_a_share_of_a_score_that_never_comes_ends_the_search(tmp_path: Path) -> None:
    study = search(tmp_path, costs((SCORE, "95%")))
    first = study.ask()
    assert first is not None
    study.tell(Outcome(first.number, first.pattern, first.seed, reason="broken"))
    with pytest.raises(TrainingError, match=r"cannot be trained \(broken\), and --min-score 95% is a share"):
        study.ask()


def three(folder: Path, sampler: str) -> Study:
    return search(folder, costs(objectives=("parameters", "macs")), sampler=sampler)


@pytest.mark.parametrize("sampler", ["NSGAIISampler", "PatternSampler"])
def test_three_objectives_are_told_named_and_ranked(tmp_path: Path, sampler: str) -> None:
    study = three(tmp_path, sampler)
    work_off(study)
    assert study._study.metric_names == ["acc", "parameters", "macs"]
    row = next(row for row in study.rows() if row.pattern == "0 2")
    pattern = Pattern.parse("0 2")
    assert list(row.costs) == [COUNTS.fixed + 200, MACS.fixed + 20 + 31]
    assert row.parameters == pattern.parameters(COUNTS)
    theirs = {t.user_attrs["pattern"] for t in study._study.best_trials}
    assert {row.pattern for row in study.front()} == theirs
    assert "1-3" in theirs  # as large as 0-2 and worse, but far fewer MACs


def test_a_proposal_is_beaten_only_by_what_is_no_larger_in_any_cost() -> None:
    wanted = costs(objectives=("parameters", "macs"))
    perfect = Row(3, "COMPLETE", "1-3", 0, score=1.0, costs=wanted.values(Pattern.parse("1-3")))
    asked = [Pattern.parse(text) for text in ("0-2", "2-3", "0 2-3", "1 1 2-3")]

    def found(row: Row) -> dict[str, str]:
        names = ("parameters", "macs")
        more = {"metric": "accuracy", "num_layers": LAYERS, "costs": names}
        return hopeless(asked, [row], wanted.values, direction="maximize", **more)  # type: ignore[arg-type]

    assert set(found(perfect)) == {"0-2", "0 2-3", "1 1 2-3"}  # two layers are smaller
    assert found(perfect)["0-2"].endswith("trial 3 has 1.0000 with no more parameters and macs")
    costly = replace(perfect, costs=(perfect.costs[0], 1000))
    assert found(costly) == {}
    assert found(replace(perfect, over={"latency": 0.1})) == {}


def test_a_study_from_before_means_score_and_parameters(tmp_path: Path) -> None:
    assert purpose().costs == ("parameters",)
    study = open_study(f"{tmp_path}/db", tmp_path, costs=costs())
    work_off(study)
    assert all("parameters" not in trial.user_attrs for trial in study._study.trials)
    assert all(row.costs == (row.parameters,) for row in study.rows() if row.done)


def test_scores_count_in_studies_of_other_objectives() -> None:
    assert purpose(objectives="macs", limits="--max-macs 50%", hardware="x").evaluation == purpose().evaluation
    assert Purpose({"objectives": "macs,latency"}, "acc", "maximize").costs == ("macs", "latency")
