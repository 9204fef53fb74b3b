"""Orders: greedy removal and every pattern, from the study alone, with several workers, to their end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.errors import LayersearchError, WordsError
from layersearch.pattern import Pattern
from layersearch.report.console import Progress
from layersearch.search.driver import Driver
from layersearch.search.objectives import parse_limit
from layersearch.search.orders import MOST, check_order, order_of, removals, trials_in
from layersearch.search.preparing import prepare
from layersearch.search.question import What
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.search_space import SearchSpace
from layersearch.stacked_space import StackedSpace
from layersearch.training.job import Job, Outcome
from tests.conftest import call
from tests.search.support import COUNTS, LAYERS, SPACE, close_all, open_study, outcome_of, purpose

HALVES = SearchSpace(choices=("keep", "drop", "attention", "ffn"))


def opened(folder: Path, sampler: str, space: SearchSpace = SPACE) -> Study:
    wanted = purpose(sampler=sampler, space=space.canonical())
    return open_study(f"{folder}/s.db", folder, wanted=wanted, space=space, sampler=sampler)


def worked_off(study: Study) -> list[str]:
    """The patterns in the order that they were asked for."""
    asked = []
    while (job := study.ask()) is not None:
        asked.append(job.pattern)
        study.tell(outcome_of(job))
    return asked


def row(pattern: str, score: float | None, state: str = "COMPLETE", *, lost: bool = False) -> Row:
    parameters = Pattern.parse(pattern).parameters(COUNTS)
    return Row(0, state, pattern, 0, score=score, parameters=parameters, lost=lost)


def test_greedy_drops_the_layer_whose_removal_costs_least(tmp_path: Path) -> None:
    """`outcome_of` gives the lower layers more, so the highest goes each time."""
    asked = worked_off(opened(tmp_path, "greedy"))
    assert asked == ["0-3", "1-3", "0 2-3", "0-1 3", "0-2", "1-2", "0 2", "0-1", "1", "0"]
    assert len(asked) == trials_in("greedy", SPACE, LAYERS)


def test_greedy_goes_on_from_its_study(tmp_path: Path) -> None:
    first: list[str] = []
    while len(first) < 6:
        study = opened(tmp_path, "greedy")
        job = study.ask()
        assert job is not None
        study.tell(outcome_of(job))
        first.append(job.pattern)
        close_all()
    assert [*first, *worked_off(opened(tmp_path, "greedy"))] == [
        *("0-3", "1-3", "0 2-3", "0-1 3", "0-2", "1-2", "0 2", "0-1", "1", "0"),
    ]


def test_greedy_waits_until_its_step_is_scored(tmp_path: Path) -> None:
    study = opened(tmp_path, "greedy")
    jobs = [study.ask() for _ in range(6)]
    out = [job for job in jobs if job is not None]
    assert ([job.pattern for job in out], jobs[5]) == (["0-3", "1-3", "0 2-3", "0-1 3", "0-2"], None)
    for job in out[:-1]:
        study.tell(outcome_of(job))
        assert study.ask() is None
    study.tell(outcome_of(out[-1]))
    following = study.ask()
    assert following is not None
    assert following.pattern == "1-2"


def test_a_driver_waits_for_what_another_has_out(tmp_path: Path) -> None:
    study = opened(tmp_path, "greedy")
    theirs = [job for job in (study.ask() for _ in range(5)) if job is not None]
    driver = Driver(study, 10, Progress())
    assert (driver.next_job(), driver.done, study.waits()) == (None, False, True)
    for job in theirs:
        study.tell(outcome_of(job))
    following = driver.next_job()
    assert following is not None
    assert following.pattern == "1-2"


def test_a_failed_removal_is_passed_over_and_a_lost_one_tried_again(tmp_path: Path) -> None:
    study = opened(tmp_path, "greedy")
    jobs = [job for job in (study.ask() for _ in range(5)) if job is not None]
    for job in jobs[:3]:
        study.tell(outcome_of(job))
    study.tell(Outcome(jobs[3].number, jobs[3].pattern, 0, reason="killed", lost=True, died=True))
    study.tell(Outcome(jobs[4].number, jobs[4].pattern, 0, reason="not finite"))
    again = study.ask()
    assert again is not None
    assert again.pattern == "0-1 3"
    study.tell(outcome_of(again))
    following = study.ask()
    assert following is not None
    assert following.pattern == "1 3"  # of what is left, `0-1 3` scores best


def test_a_step_of_halves_takes_one_half() -> None:
    assert {str(p) for p in removals(Pattern.parse("0-1"), HALVES, 2)} == {"0a 1", "0f 1", "0 1a", "0 1f"}
    assert {str(p) for p in removals(Pattern.parse("0a 1"), HALVES, 2)} == {"1", "0a 1a", "0a 1f"}
    assert trials_in("greedy", HALVES, 2) == 1 + 4 + 3 + 2
    everything = SearchSpace(choices=("keep", "drop", "ffn", "duplicate"), min_layers=2)
    assert {str(p) for p in removals(Pattern.parse("0-2"), everything, 3)} == {"0f 1-2", "0 1f 2", "0-1 2f"}
    assert removals(Pattern.parse("0 1f"), everything, 3) == [Pattern.parse("0f 1f")]


def test_of_equal_scores_the_smaller_goes_on_and_lower_may_be_better() -> None:
    greedy = order_of("greedy", HALVES, 2, "minimize")
    assert greedy is not None
    rows = [row("0-1", 0.2), row("0a 1", 0.5), row("0f 1", 0.5), row("0 1a", 0.7), row("0 1f", 0.7)]
    assert greedy(rows) == Pattern.parse("1")  # from `0a 1`, whose attention half has fewer parameters
    assert greedy([replace(r, score=1.0) if r.pattern == "0a 1" else r for r in rows]) != Pattern.parse("0a 1a")


@pytest.mark.parametrize("batch", [1, 3])
def test_exhaustive_tries_every_pattern_once_and_ends(tmp_path: Path, batch: int) -> None:
    study = opened(tmp_path, "exhaustive")
    asked: list[str] = []
    while jobs := [job for job in (study.ask() for _ in range(batch)) if isinstance(job, Job)]:
        asked += [job.pattern for job in jobs]
        for job in jobs:
            study.tell(outcome_of(job))
    assert asked == [str(pattern) for pattern in SPACE.patterns(LAYERS)]
    assert trials_in("exhaustive", SPACE, LAYERS) == len(asked) == 15


def test_the_longest_way_down_counts() -> None:
    """With an encoder of two layers and a decoder of four, and where an FFN half may be left."""
    stacked = StackedSpace.of(SearchSpace(choices=("keep", "drop")), (2, 4))
    assert trials_in("greedy", stacked, 6) == 1 + 6 + 5 + 4 + 2
    assert trials_in("greedy", SearchSpace(choices=("keep", "drop", "ffn")), 2) == 1 + 2 + 2 + 2


def test_samplers_are_no_orders() -> None:
    assert order_of("TPESampler", SPACE, LAYERS, "maximize") is None
    assert trials_in("TPESampler", SPACE, LAYERS) is None


def test_spaces_that_an_order_cannot_go_through() -> None:
    check_order("exhaustive", SPACE, 12)
    check_order("greedy", SPACE, 13)
    with pytest.raises(WordsError, match=f"tries every pattern and the space has 8,191; it goes with {MOST:,} at most"):
        check_order("exhaustive", SPACE, 13)
    for space in (SearchSpace(strategies=("top",)), SearchSpace(choices=("keep", "duplicate"))):
        with pytest.raises(WordsError, match="--sampler greedy drops one layer after another, and the space has"):
            check_order("greedy", space, 6)


def test_a_method_without_full_scores_is_refused(tiny_model: Path, tiny_data: Path) -> None:
    what = What(str(tiny_model), "sst2", tiny_data, sampler="greedy")
    with pytest.raises(LayersearchError, match="--sampler greedy needs the full score of every candidate it asks for"):
        prepare(what)


def test_greedy_with_a_limit_on_a_cost_is_refused(tiny_model: Path, tiny_data: Path) -> None:
    limits = (parse_limit("parameters", "60%"), parse_limit("score", "0.5"))
    what = What(str(tiny_model), "sst2", tiny_data, sampler="greedy", method="fine-tune", limits=limits)
    with pytest.raises(LayersearchError, match=r"greedy comes from .* what is over --max-params 60%:"):
        prepare(what)


def test_greedy_proposes_nothing_twice_that_was_not_trained() -> None:
    greedy = order_of("greedy", SPACE, LAYERS, "maximize")
    assert greedy is not None
    rows = [row("0-3", 0.9), row("1-3", None, "PRUNED"), row("0 2-3", 0.8), row("0-1 3", 0.7), row("0-2", 0.6)]
    assert greedy(rows) == Pattern.parse("2-3")
    assert greedy([row("0-3", 0.9), *(row(text, None, "PRUNED") for text in ("1-3", "0 2-3", "0-1 3", "0-2"))]) is None


TABLE = """layers,score,parameters
0 1 2,0.9,30
0 1,0.8,20
0 2,0.85,20
1 2,0.7,20
0,0.6,10
2,0.5,10
1,0.65,10
"""


@pytest.mark.parametrize(("sampler", "trials"), [("greedy", 6), ("exhaustive", 7)])
def test_a_table_is_gone_through_to_the_end(tmp_path: Path, sampler: str, trials: int) -> None:
    (tmp_path / "t.csv").write_text(TABLE.replace("layers,", "kept_layers,"))
    words = ("run", "--replay", tmp_path / "t.csv", "--sampler", sampler, "--storage", tmp_path / "s.db")
    said = call(*words, "--files", tmp_path / "files")
    assert said.code == 0, said.err
    assert f"the search ended: {trials} trials are finished" in said.err
    assert "0-2 " in said.out
    assert ("1  " in said.out) == (sampler == "exhaustive")  # greedy goes from `0 2` and never sees `1`
