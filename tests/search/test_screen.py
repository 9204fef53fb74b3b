"""What is not worth a training: beaten and low-ranked proposals, pure and through a study."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layersearch.pattern import PartCounts, Pattern, thirds
from layersearch.search.cheap import CheapRanking
from layersearch.search.objectives import Costs, parse_limit
from layersearch.search.purpose import Purpose
from layersearch.search.question import How, What
from layersearch.search.record import read_study
from layersearch.search.run import run
from layersearch.search.screen import DEVIATIONS, FROM, Screen, hopeless, low_ranked, reach
from layersearch.search.surrogate import coded, fitted
from layersearch.search.trials import Row
from layersearch.search_space import SearchSpace
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import Recipe
from tests.search.support import open_study
from tests.search.test_driver import Witness
from tests.search.test_study import trials_of

LAYERS = 8
SPACE = SearchSpace(choices=("keep", "drop"))
PATTERNS = list(SPACE.patterns(LAYERS))


def parameters(pattern: Pattern) -> int:
    return 100 + thirds(pattern.blocks)


def row(number: int, pattern: Pattern | str, score: float | None) -> Row:
    parsed = Pattern.parse(str(pattern))
    state = "RUNNING" if score is None else "COMPLETE"
    return Row(number, state, str(parsed), 0, score=score, parameters=None if score is None else parameters(parsed))


def why(patterns: list[str], rows: list[Row], metric: str = "accuracy", direction: str = "maximize") -> dict[str, str]:
    asked = [Pattern.parse(text) for text in patterns]
    return hopeless(asked, rows, parameters, metric=metric, direction=direction, num_layers=LAYERS)  # type: ignore[arg-type]


def worth(pattern: Pattern) -> float:
    """Layer 2 is worth most of the score; size the rest."""
    return 0.2 + 0.6 * any(block.layer == 2 for block in pattern.blocks) + 0.01 * pattern.depth


def test_a_perfect_score_beats_all_that_is_no_smaller_from_the_start() -> None:
    rows = [row(0, "0-7", 0.9), row(4, "0-3", 1.0), row(5, "0-1", None)]
    assert why(["0-4", "1-4", "4-6", "0"], rows) == {
        "0-4": "beaten proposal: 1.0000 at best, and trial 4 has 1.0000 with no more parameters",
        "1-4": "beaten proposal: 1.0000 at best, and trial 4 has 1.0000 with no more parameters",
    }
    assert why(["0-4"], [row(4, "0-3", 0.9999)]) == {}


def test_a_metric_without_a_known_limit_has_none() -> None:
    assert why(["0-4"], [row(4, "0-3", 1.0)], metric="points") == {}
    assert why(["0-4"], [row(4, "0-3", 0.0)], metric="points", direction="minimize") == {}


def test_the_surrogates_bound_counts_from_enough_trials_on() -> None:
    drawn = random.Random(0).sample(PATTERNS, 40)
    rows = [row(number, pattern, worth(pattern)) for number, pattern in enumerate([*drawn, Pattern.parse("2")])]
    unseen = [str(pattern) for pattern in PATTERNS if pattern not in drawn]
    beaten = why(unseen, rows, metric="points")
    assert beaten
    for text, reason in beaten.items():
        smaller = [r for r in rows if (r.parameters or 0) <= parameters(Pattern.parse(text))]
        assert worth(Pattern.parse(text)) <= max(r.score or 0 for r in smaller)
        assert reason.endswith("with no more parameters")
    assert why(unseen, rows[-FROM + 1 :], metric="points") == {}
    errors = [replace(r, score=1 - (r.score or 0)) for r in rows]
    assert set(why(unseen, errors, metric="points", direction="minimize")) == set(beaten)


def test_equal_scores_teach_nothing() -> None:
    rows = [row(number, pattern, 0.5) for number, pattern in enumerate(PATTERNS[1:30])]
    assert why(["0-7"], rows, metric="points") == {}


def test_a_surprise_widens_the_bounds() -> None:
    drawn = random.Random(1).sample(PATTERNS, 30)
    errors = np.array([1 - worth(pattern) for pattern in drawn])
    calm = reach(fitted(coded(drawn, LAYERS), errors))
    worst = int(errors.argmax())
    errors[worst] = errors.min() - 2
    assert reach(fitted(coded(drawn, LAYERS), errors)) > max(calm, DEVIATIONS)


def test_leaving_out_in_closed_form_is_leaving_out() -> None:
    drawn = random.Random(2).sample(PATTERNS, 12)
    errors = np.array([1 - worth(pattern) for pattern in drawn])
    process = fitted(coded(drawn, LAYERS), errors)
    mean, deviation = process.left_out()
    rest = [n for n in range(12) if n != 5]
    others = errors - errors.mean()  # the centre is told from all
    told, spread = fitted(process.known.take(rest), others[rest] - others[rest].mean()).predict(process.known.take([5]))
    assert mean[5] - errors.mean() == pytest.approx(told[0], abs=0.05)
    assert deviation[5] > 0
    assert spread[0] > 0


AGREED = CheapRanking("block", tuple(float(half) for half in range(16)), 0.6, 0.4, 0.8, 20)


def test_the_worst_third_of_a_size_is_outranked() -> None:
    of_a_size = [Pattern.of_layers(layer for layer in range(LAYERS) if layer != gone) for gone in range(LAYERS)]
    found = low_ranked(PATTERNS, of_a_size, parameters, AGREED)
    assert set(found) == {"0-6", "0-5 7"}  # dropping the last layers costs most; two of eight are below two thirds
    assert found["0-6"] == (
        "low-ranked proposal: in the worst third of its size by attention/FFN block influence, rank correlation 0.60 "
        "(0.40 to 0.80) within sizes"
    )
    assert low_ranked(PATTERNS, of_a_size[-2:], parameters, AGREED) == {}
    level = replace(AGREED, influence=(1.0,) * 16)
    assert low_ranked(PATTERNS, of_a_size, parameters, level) == {}


def measured(score: float = 0.9) -> Row:
    """The unchanged model with influences that say the truth of `ordered`."""
    values = [float(half) / 100 for half in range(16)]
    return replace(row(0, "0-7", score), influence={"block": values, "token": [0.0] * 16})


def ordered(pattern: Pattern) -> float:
    return 0.9 - sum(4 * layer + 1 for layer in pattern.dropped(LAYERS)) / 1000


def test_a_screen_follows_a_cheap_score_only_once_it_is_shown_to_rank() -> None:
    screen = Screen(SPACE, LAYERS, Purpose({}, "points", "maximize"), parameters)
    pairs = [p for p in PATTERNS if p.depth == LAYERS - 2]
    tried, rest = pairs[::2], pairs[1::2]
    good = [measured(), *(row(n, p, ordered(p)) for n, p in enumerate(tried, 1))]
    assert set(screen.skipped(rest, good[:12])) == set()  # eleven trials
    reasons = screen.skipped(rest, good)
    assert 0 < len(reasons) <= len(rest) / 3
    worst = sorted(rest, key=ordered)
    assert str(worst[0]) in reasons
    assert str(worst[-1]) not in reasons
    luck = random.Random(0)
    chance = [measured(), *(row(n, p, luck.random()) for n, p in enumerate(tried, 1))]
    assert screen.skipped(rest, chance) == {}
    assert replace(screen, parameters=None).skipped(rest, good) == {}


def test_start_points_and_the_unchanged_model_are_never_skipped() -> None:
    named = SearchSpace(choices=("keep", "drop"), start=("top",))
    screen = Screen(named, LAYERS, Purpose({}, "accuracy", "maximize"), parameters)
    rows = [row(3, "0", 1.0)]
    assert list(screen.skipped([Pattern.parse(text) for text in ("0-7", "0-5", "1-5")], rows)) == ["1-5"]


def test_unseen_patterns_are_all_of_a_small_space_and_some_of_a_large_one() -> None:
    screen = Screen(SPACE, LAYERS, Purpose({}, "accuracy", "maximize"), parameters)
    found = screen._unseen({"0-7", "3"}, random.Random(0))
    assert len(found) == len(set(found)) == 2**LAYERS - 1 - 2
    assert found != screen._unseen({"0-7", "3"}, random.Random(1))
    large = Screen(SPACE, 24, Purpose({}, "accuracy", "maximize"), parameters)
    assert 0 < len(large._unseen(set(), random.Random(0))) <= 512


def test_few_patterns_within_a_limit_are_found_in_a_large_space() -> None:
    """24 patterns of millions have one layer; those next to the cheapest are found."""
    parts = PartCounts(1000, (40,) * 24, (60,) * 24)
    costs = Costs({"parameters": parts}, limits=(parse_limit("parameters", "1100"),))
    screen = Screen(SPACE, 24, Purpose({}, "accuracy", "maximize"), costs=costs)
    rows: list[Row] = []
    while (found := screen.draw(rows, random.Random(0))) is not None:
        rows.append(row(len(rows), found, None))
    assert len(rows) > 1
    assert {Pattern.parse(one.pattern).depth for one in rows} == {1}


def perfect(job: Job) -> Outcome:
    """One layer is enough."""
    size = 100 + thirds(Pattern.parse(job.pattern).blocks)
    return Outcome(job.number, job.pattern, job.seed, score=1.0, parameters=size)


@pytest.mark.parametrize("sampler", ["RandomSampler", "PatternSampler"])
def test_a_study_ends_when_nothing_is_worth_a_training(tmp_path: Path, sampler: str) -> None:
    wanted = Purpose({"revision": "r1"}, "accuracy", "maximize")
    study = open_study(f"{tmp_path}/db", tmp_path, wanted=wanted, sampler=sampler, space=SPACE, parameters=parameters)
    jobs = []
    while (job := study.ask()) is not None:
        study.tell(perfect(job))
        jobs.append(job)
    assert (jobs[0].pattern, jobs[0].influence, jobs[1].influence) == ("0-3", True, False)
    assert len(jobs) < 15
    pruned = [trial for trial in trials_of(tmp_path) if trial.state.name == "PRUNED"]
    beaten = [t.user_attrs["pattern"] for t in pruned if t.user_attrs.get("reason", "").startswith("beaten proposal")]
    assert beaten
    assert not set(beaten) & {job.pattern for job in jobs}
    assert study.finished() == len(jobs)
    assert study.ask() is None


def test_a_search_measures_influence_once_and_reports_what_it_was_worth(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = Recipe(learning_rate=1e-2, batch_size=8, epochs=1, max_length=24, precision="fp32")
    what = What(str(tiny_model), "sst2", tiny_data, recipe=recipe, holdout=0.3, method="fine-tune")
    how = How("tiny", str(tmp_path / "s.db"), tmp_path / "files", workers=0, device="cpu")
    run(what, how, trials=15, confirm=0, watcher=Witness())
    record = read_study(how.storage, "tiny", print)
    assert [row.number for row in record.rows if row.influence] == [0]
    measured = record.rows[0].influence or {}
    assert {name: len(values) for name, values in measured.items()} == dict.fromkeys(("block", "token", "gradient"), 8)
    texts = [row.pattern for row in record.rows if row.done]
    assert len(texts) == len(set(texts)) >= 8
    left = {str(pattern) for pattern in SPACE.patterns(4)} - set(texts)
    best = max(row.score or 0 for row in record.rows)
    assert not left or best == 1.0 or record.cheap is not None  # all is tried, or what is not has a reason
