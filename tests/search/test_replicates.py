"""Further seeds go where they change the front: chosen fronts come nearer to the truth, and means are honest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from layersearch.search.files import checkpoints_in
from layersearch.search.quality import hypervolume
from layersearch.search.question import How, What
from layersearch.search.record import read_study
from layersearch.search.replicates import FIRST_SEED, MOST, averaged, contested, round_of
from layersearch.search.run import run
from layersearch.search.trials import Row, front_of
from layersearch.training import evaluator
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import Recipe
from tests.search.support import outcome_of
from tests.search.test_driver import Witness
from tests.search.test_keeping import write

NOISE = 0.02


def row(number: int, score: float, parameters: int, seed: int = 0, **more: object) -> Row:
    interval = (score - 1.96 * NOISE, score + 1.96 * NOISE)
    made = Row(number, "COMPLETE", f"0-{number}", seed, score, interval, parameters=parameters)
    return replace(made, **more)  # type: ignore[arg-type]


def truths(rng: np.random.Generator) -> dict[str, tuple[float, int]]:
    """The true score and the size of forty candidates: larger ones better, with luck of their own."""
    sizes = [int(size) for size in rng.integers(10, 100, 40)]
    return {f"0-{n}": (0.6 + 0.3 * (size / 100) ** 0.5 + 0.02 * rng.normal(), size) for n, size in enumerate(sizes)}


def seen(rng: np.random.Generator, known: dict[str, tuple[float, int]], patterns: list[str], seed: int) -> list[Row]:
    """What one seed scores."""
    return [row(int(p[2:]), known[p][0] + NOISE * rng.normal(), known[p][1], seed) for p in patterns]


def lost(rows: list[Row], known: dict[str, tuple[float, int]]) -> float:
    """The part of the true front's hypervolume that the chosen front leaves out."""

    def volume(patterns: list[str]) -> float:
        return hypervolume([(1 - known[p][0], known[p][1] / 100) for p in patterns], (1.0, 1.0))

    return 1 - volume([one.pattern for one in front_of(rows, "maximize")]) / volume(list(known))


def test_directed_seeds_choose_better_fronts_than_as_many_spread_over_all() -> None:
    """Forty searches of forty candidates; the same number of further seeds, near the front or anywhere."""
    rng = np.random.default_rng(0)
    once, directed, anywhere, budgets = [], [], [], []
    for _ in range(40):
        known = truths(rng)
        rows = seen(rng, known, list(known), 0)
        again: list[Row] = []
        for number in (1, 2, 3):
            pairs = round_of(number, rows, again, "maximize", 0)
            again += seen(rng, known, [pattern for pattern, _ in pairs], FIRST_SEED + number)
        drawn = [list(known)[n % 40] for n in rng.permutation(120)[: len(again)]]
        other = [one for n, pattern in enumerate(drawn) for one in seen(rng, known, [pattern], FIRST_SEED + n)]
        once.append(lost(rows, known))
        directed.append(lost(averaged(rows, again), known))
        anywhere.append(lost(averaged(rows, other), known))
        budgets.append(len(again))
    assert 5 < fmean(budgets) <= 3 * MOST
    assert fmean(directed) < 0.75 * fmean(once)
    assert fmean(directed) < 0.85 * fmean(anywhere)


def test_who_cannot_change_the_front_gets_no_seed() -> None:
    rows = [row(0, 0.90, 100), row(1, 0.89, 90), row(2, 0.60, 80), row(3, 0.50, 10)]
    assert contested(rows, "maximize") == ["0-0", "0-1"]  # close to each other, and far from the others
    assert contested([rows[0], rows[3]], "maximize") == []
    assert contested([row(0, 0.1, 100), row(1, 0.11, 90), row(2, 0.9, 80)], "minimize") == ["0-0", "0-1"]
    over = replace(rows[1], over={"parameters": 0.1})
    assert contested([rows[0], over, *rows[2:]], "maximize") == []


def test_a_race_ends_when_seeds_have_told_two_apart() -> None:
    rows = [row(0, 0.90, 100), row(1, 0.88, 90)]
    again = [row(0, 0.901, 100, 1001), row(1, 0.861, 90, 1001), row(0, 0.899, 100, 1002), row(1, 0.869, 90, 1002)]
    assert [seed for _, seed in round_of(1, rows, again, "maximize", 0)] == [1001, 1001]
    assert round_of(3, rows, again, "maximize", 0) == []


def test_a_round_that_is_done_stays_done() -> None:
    """What later rounds find does not reach back: else the same command would train on."""
    rng = np.random.default_rng(3)
    known = truths(rng)
    rows = seen(rng, known, list(known), 0)
    first = round_of(1, rows, [], "maximize", 0)
    again = seen(rng, known, [pattern for pattern, _ in first], 1001)
    second = round_of(2, rows, again, "maximize", 0)
    later = [*again, *seen(rng, known, [pattern for pattern, _ in second], 1002)]
    assert round_of(1, rows, later, "maximize", 0) == first
    assert round_of(2, rows, later, "maximize", 0) == second


def test_the_mean_of_all_seeds_stands_for_a_pattern_with_an_interval_of_both_noises() -> None:
    rows = [row(0, 0.80, 100, redrawn=(0.78, 0.82)), row(1, 0.70, 50)]
    again = [row(0, 0.84, 100, 1001, redrawn=(0.82, 0.86)), Row(9, "FAIL", "0-1", 1001)]
    mean, alone = averaged(rows, again)
    assert mean.score == pytest.approx(0.82)
    assert (mean.seeds, mean.number) == ((0.80, 0.84), 0)
    assert mean.redrawn == pytest.approx((0.80, 0.84))
    assert mean.interval is not None
    # of seeds 0.0004 with one degree of freedom, of examples 0.0008: together nine degrees, where t is 2.262
    assert mean.interval[1] - mean.interval[0] == pytest.approx(2 * 2.262 * 0.0012**0.5, rel=1e-3)
    assert alone == rows[1]
    assert averaged(rows, []) == rows


def test_a_search_goes_on_with_further_seeds_and_then_confirms_with_others(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(epochs=0.5, batch_size=8, max_length=24, precision="fp32")
    what = What(str(tiny_model), "sst2", tiny_data, recipe=recipe, method="fine-tune")
    how = How("s", f"{tmp_path}/db", tmp_path / "files", workers=0, device="cpu")
    run(what, how, trials=4, confirm=1, replicates=2, watcher=(witness := Witness()))
    names = [name for name, _ in witness.phases]
    assert names[0] == "s"
    assert set(names[1:-1]) == {"s.again"}
    assert names[-1] == "s.confirm"
    record = read_study(how.storage, None, print)
    several = [one for one in record.rows if one.seeds]
    assert several
    assert all(one.score == pytest.approx(fmean(one.seeds)) for one in several)
    assert {one.pattern for one in record.front} <= set(record.confirmed)
    assert {found.seeds for found in record.confirmed.values()} == {(1,)}
    monkeypatch.setattr(evaluator, "measure", lambda *_: pytest.fail("trained"))
    run(what, how, trials=4, confirm=1, replicates=2, watcher=Witness())
    assert read_study(how.storage, None, print).rows == record.rows


class MadeUp:
    """In place of an evaluator: scores that follow from the pattern, but for one that is better with further seeds."""

    better = "0-1 3"

    def course(self, job: Job, _: object) -> Iterator[Outcome]:
        outcome = outcome_of(job)
        score = (outcome.score or 0.0) + 0.1 * (job.pattern == self.better and job.seed > 0)
        beaten = any(other >= score and size <= (outcome.parameters or 0) for other, size in job.front)
        if job.checkpoint is not None and not beaten:
            write(Path(job.checkpoint), 1)
        yield replace(outcome, score=score)


def test_weights_are_kept_of_whom_further_seeds_bring_onto_the_front_in_the_same_run(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.search.run.make_evaluator", lambda *_: MadeUp())
    recipe = Recipe(epochs=0.5, batch_size=8, max_length=24, precision="fp32")
    what = What(str(tiny_model), "sst2", tiny_data, recipe=recipe, method="fine-tune")
    how = How("s", f"{tmp_path}/db", tmp_path / "files", workers=0, device="cpu")
    run(what, how, trials=12, confirm=1, replicates=1, watcher=Witness())
    record = read_study(how.storage, None, print)
    assert MadeUp.better in [one.pattern for one in record.front]
    assert {one.number for one in record.front} == set(checkpoints_in(how.folder))
