"""Halving: the rule by itself, then in real studies with made-up scores, to the end and through every kind of death."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layersearch.errors import DataError, LayersearchError
from layersearch.pattern import Pattern
from layersearch.report.console import Progress
from layersearch.search.driver import Driver
from layersearch.search.halving import Rungs
from layersearch.search.question import How
from layersearch.search.record import read_study
from layersearch.search.replay import replay_of
from layersearch.search.run import run_inline, run_replay
from layersearch.search.sampler_pattern import PatternSampler
from layersearch.search.scores import read_table
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import Halving
from tests.conftest import TinyRun, call
from tests.search.support import LAYERS, SPACE, open_study, opened, outcome_of
from tests.search.test_driver import Witness

RULE = Rungs(Halving(eta=2, first=0.25), "maximize", "0-3")


def row(number: int, score: float, size: int, share: float = 0.25, state: str = "RUNNING", **more: object) -> Row:
    """A candidate at a rung."""
    given: dict[str, object] = {"pattern": f"{number}", **more}
    return Row(number, state, seed=0, parameters=size, rungs={share: score}, **given)  # type: ignore[arg-type]


# -- the rule ---------------------------------------------------------------------------------------------------------


def test_rungs_rise_by_eta_to_the_end_and_brackets_begin_later() -> None:
    assert Halving().rungs() == (0.111111, 0.333333, 1.0)
    assert Halving(eta=2, first=0.3).rungs() == (0.3, 0.6, 1.0)
    assert Halving(brackets=3).rungs(2) == (1.0,)
    assert Halving(brackets=2).rungs(1) == (0.333333, 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 1}, "halving: eta = 1; allowed is 2 or more"),
        ({"first": 1.0}, "halving: first = 1.0; allowed is above 0 and below 1 (a share of the steps)"),
        ({"brackets": 4}, "halving: brackets = 4; allowed is 1 to 3, the number of rungs"),
    ],
)
def test_settings_outside_their_bounds_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(LayersearchError) as error:
        Halving(**settings)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_the_work_is_what_one_in_eta_going_on_costs() -> None:
    assert Halving(eta=2, first=0.5).work == pytest.approx(0.75)
    assert Halving().work == pytest.approx(1 / 9 + 2 / 27 + 2 / 27, abs=1e-5)


def test_a_small_weak_candidate_goes_on_beside_a_large_good_one() -> None:
    rows = [row(1, 0.9, 100), row(2, 0.8, 90), row(3, 0.85, 95), row(4, 0.1, 10)]
    assert [r.number for r in rows if RULE.goes_on(rows, r.number)] == [1, 4]


def test_of_a_few_nobody_goes_on_but_the_unchanged_model_which_takes_nobodys_place() -> None:
    full = row(0, 0.2, 100, pattern="0-3")
    assert RULE.goes_on([full], 0)
    assert not RULE.goes_on([full, row(1, 0.9, 90)], 1)
    assert RULE.goes_on([full, row(1, 0.9, 90), row(2, 0.1, 95)], 1)


def test_a_failed_trial_leaves_no_entry_and_a_finished_or_stopped_one_does() -> None:
    others = [row(2, 0.1, 95, state="FAIL"), row(3, 0.1, 95, state="PRUNED"), row(4, 0.1, 95, state="COMPLETE")]
    assert [RULE.goes_on([row(1, 0.9, 90), other], 1) for other in others] == [False, True, True]


def test_brackets_are_ranked_by_themselves() -> None:
    rule = Rungs(Halving(eta=2, first=0.25, brackets=2), "maximize", "0-3")
    rows = [row(2, 0.9, 90), row(4, 0.1, 95), row(3, 0.2, 92, share=0.5), row(5, 0.1, 95, share=0.5)]
    assert [r.number for r in rows if rule.goes_on(rows, r.number)] == [2, 3]
    assert rule.of(2) == (0.25, 0.5, 1.0)
    assert rule.of(3) == (0.5, 1.0)


def test_the_highest_rung_comes_first_and_what_is_out_is_not_handed_out() -> None:
    rows = [row(1, 0.9, 90), row(2, 0.1, 95), row(3, 0.9, 90, share=0.5), row(4, 0.1, 95, share=0.5)]
    assert [getattr(RULE.promoted(rows, out), "number", None) for out in ((), (3,), (1, 3))] == [3, 1, None]


POINTS = st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 6)), min_size=1, max_size=20)


@given(POINTS, st.sampled_from(["maximize", "minimize"]))
def test_as_many_go_on_as_eta_says_and_none_that_is_beaten_before_one_that_beats_it(
    points: list[tuple[int, int]], direction: str
) -> None:
    rule = Rungs(Halving(eta=3), direction, "full")  # type: ignore[arg-type]
    rows = [row(number, score, size, 0.333333) for number, (score, size) in enumerate(points)]
    on = [r for r in rows if rule.goes_on(rows, r.number)]
    assert len(on) == len(rows) // 3
    sign = 1 if direction == "maximize" else -1
    for behind in (r for r in rows if r not in on):
        for ahead in on:
            better = sign * behind.rungs[0.333333] > sign * ahead.rungs[0.333333]
            assert not (better and (behind.parameters or 0) < (ahead.parameters or 0))


# -- in studies -------------------------------------------------------------------------------------------------------


class Climber:
    """Answers at rungs with the pattern's score times the share of training; keeps a state like a real one."""

    def __init__(self) -> None:
        self.done: list[tuple[int, float]] = []  # (trial, share), in order
        self.fails: set[tuple[str, float]] = set()

    def course(self, job: Job, _heartbeat: object = None) -> Iterator[Outcome]:
        """An outcome a rung."""
        for share in job.rungs or (1.0,):
            self.done.append((job.number, share))
            if (job.pattern, share) in self.fails:
                yield Outcome(job.number, job.pattern, job.seed, reason=f"fails at {share}")
                return
            known = outcome_of(job)
            if share < 1.0:
                assert job.state is not None
                Path(job.state).parent.mkdir(exist_ok=True)
                Path(job.state).write_text(str(share))
            found = {**vars(known), "score": (known.score or 0) * share, "rung": share if share < 1 else None}
            yield Outcome(**found)


def driver_of(folder: Path, trials: int = 12, witness: Witness | None = None, **more: object) -> Driver:
    study = open_study(f"{folder}/db", folder, sampler="PatternSampler")
    return Driver(study, trials, witness or Witness(), halving=RULE, **more)  # type: ignore[arg-type]


def states(study: Study) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for r in study.rows():
        if r.stopped or r.state != "PRUNED":
            found.setdefault(r.state, []).append(r.number)
    return found


def files(study: Study) -> list[str]:
    return sorted(file.name for file in (study.folder / "paused").glob("*"))


def test_a_search_ends_with_complete_and_stopped_trials_and_nothing_else(tmp_path: Path) -> None:
    witness, climber = Witness(), Climber()
    driver = driver_of(tmp_path, witness=witness)
    run_inline(driver, climber.course)  # type: ignore[arg-type]
    found = states(driver.study)
    assert set(found) == {"COMPLETE", "PRUNED"}
    assert len(found["COMPLETE"]) + len(found["PRUNED"]) == driver.study.finished() == 12
    assert 0 in found["COMPLETE"]  # the unchanged model
    assert len(climber.done) == len(set(climber.done)) < 3 * 12  # no stretch twice, and not everybody to the end
    assert files(driver.study) == []
    at_first = [number for number, share in climber.done if share == 0.25 and number]
    assert len({number for number, share in climber.done if share == 0.5 and number}) >= len(at_first) // 2
    stopped = [r for r in driver.study.rows() if r.stopped]
    for r in stopped:
        assert r.reason == f"stopped at rung {max(r.rungs):.3g} with {r.rungs[max(r.rungs)]:.4f}"
        assert r.score is None
        assert r.parameters
        assert not [m for m in driver.study.front() if m.number == r.number]
    assert f"{len(stopped)} of 12 candidates were stopped early, at their rungs" in witness.lines


def test_stopped_patterns_are_not_tried_again_and_more_trials_go_on(tmp_path: Path) -> None:
    climber = Climber()
    run_inline(driver_of(tmp_path), climber.course)  # type: ignore[arg-type]
    before = list(climber.done)
    close(tmp_path)
    driver = driver_of(tmp_path, 1000)
    run_inline(driver, climber.course)  # type: ignore[arg-type]
    texts = [r.pattern for r in driver.study.rows() if r.stopped or r.done]
    assert sorted(texts) == sorted(str(p) for p in SPACE.patterns(LAYERS))
    assert climber.done[: len(before)] == before
    assert len(set(climber.done)) == len(climber.done)


def close(folder: Path) -> None:
    """What the operating system does for a killed driver."""
    for study in opened:
        if study.folder.parent == folder:
            study._lease.release()


@pytest.mark.parametrize("gap", ["state written", "rung told", "decided", "final told"])
@pytest.mark.parametrize("stretch", range(1, 14, 3))
def test_a_driver_killed_in_any_gap_loses_a_rung_at_most(tmp_path: Path, gap: str, stretch: int) -> None:
    climber = Climber()
    driver = driver_of(tmp_path, 8)
    left: list[Outcome] = []
    for turn in range(stretch):  # one stretch after another, each from its state, as many workers would
        job = driver.next_job()
        if job is None:
            break
        outcome = next(climber.course(job))
        if turn == stretch - 1:
            left.append(outcome)
            if gap == "rung told" and outcome.rung:
                driver.study.reach(outcome)
            if gap == "decided" and outcome.rung:
                driver.reached(outcome)
            if gap == "final told" and outcome.rung is None:
                driver.study._outbox.put(outcome)
            break
        if outcome.rung is None:
            driver.finish(outcome)
        else:
            driver.reached(outcome)
            driver._running.pop(outcome.number, None)  # as if its worker had to read the state
    before = {r.number: dict(r.rungs) for r in driver.study.rows() if r.rungs}
    paid = list(climber.done)
    close(tmp_path)
    again = driver_of(tmp_path, 8)
    run_inline(again, climber.course)  # type: ignore[arg-type]
    rows = {r.number: r for r in again.study.rows()}
    assert set(states(again.study)) <= {"COMPLETE", "PRUNED", "FAIL"}
    assert again.study.finished() == 8
    for number, rungs in before.items():
        assert rungs.items() <= rows[number].rungs.items()
        assert rows[number].state in ("COMPLETE", "PRUNED")
    twice = [done for done in climber.done[len(paid) :] if done in paid]
    assert len(twice) <= 1
    assert files(again.study) == []


def test_a_worker_that_dies_between_rungs_costs_the_stretch_and_after_three_deaths_the_trial(tmp_path: Path) -> None:
    driver = driver_of(tmp_path, 4)
    job = driver.next_job()
    assert job is not None
    assert driver.reached(next(Climber().course(job)))
    for deaths in range(1, 4):
        driver.finish(Outcome(job.number, job.pattern, job.seed, reason="died", lost=True, died=True))
        driver._failures.clear()
        after = next(r for r in driver.study.rows() if r.number == 0)
        assert after.state == ("RUNNING" if deaths < 3 else "FAIL")
        if deaths < 3:
            job = driver.next_job()
            assert job is not None
            assert (job.number, job.rungs) == (0, (0.5, 1.0))
    assert files(driver.study) == []


def test_a_stop_keeps_what_is_paused_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driver, climber = driver_of(tmp_path, 6), Climber()
    for _ in range(3):
        job = driver.next_job()
        assert job is not None
        driver.reached(next(climber.course(job)))
    driver.stopping = True
    driver.abandon("stopped before it was finished")
    kept = [r for r in driver.study.rows() if r.paused]
    assert len(kept) == len(files(driver.study)) == 3
    Progress().phase(driver.study, 6)
    assert "0 of 6 trials finished, 3 paused" in capsys.readouterr().err
    close(tmp_path)
    witness = Witness()
    again = driver_of(tmp_path, 6, witness)
    run_inline(again, climber.course)  # type: ignore[arg-type]
    assert again.study.finished() == 6
    assert len(climber.done) == len(set(climber.done))


def test_a_candidate_that_fails_at_a_rung_is_failed_and_another_comes_in_its_place(tmp_path: Path) -> None:
    climber = Climber()
    climber.fails = {("0-2", 0.25), ("0-3", 0.5)}
    driver = driver_of(tmp_path, 8)
    run_inline(driver, climber.course)  # type: ignore[arg-type]
    found = states(driver.study)
    assert len(found["FAIL"]) == 2
    assert driver.study.finished() == 8
    assert files(driver.study) == []


def test_many_at_once_hand_out_promotions_first_and_a_late_answer_counts(tmp_path: Path) -> None:
    driver, climber = driver_of(tmp_path, 10), Climber()
    out = [job for job in (driver.next_job() for _ in range(8)) if job is not None]
    assert len({job.number for job in out}) == 8
    for job in out[1:6]:
        driver.reached(next(climber.course(job)))
    again = driver.next_job()
    assert again is not None
    assert again.number in {known.number for known in out[1:6]}
    assert again.rungs == (0.5, 1.0)
    late = next(climber.course(out[0]))
    assert driver.reached(late)
    assert not driver.reached(Outcome(999, "0", 0, score=1.0, rung=0.25))


def test_the_confirmation_trains_in_full(tmp_path: Path) -> None:
    def confirmation() -> Study:
        study = open_study(f"{tmp_path}/db", tmp_path, "s.confirm", space=None)
        study.enqueue("0-3", 1)
        return study

    climber = Climber()
    driver = driver_of(tmp_path, 4, then=[confirmation])
    run_inline(driver, climber.course)  # type: ignore[arg-type]
    assert climber.done[-1] == (0, 1.0)
    assert [r.state for r in driver.study.rows()] == ["COMPLETE"]


def test_the_sampler_learns_from_complete_trials_only_and_knows_what_was_stopped(tmp_path: Path) -> None:
    driver = driver_of(tmp_path, 12)
    run_inline(driver, Climber().course)  # type: ignore[arg-type]
    driver.study.ask()
    sampler = driver.study._study.sampler
    assert isinstance(sampler, PatternSampler)
    complete = {r.pattern for r in driver.study.rows() if r.done}
    assert set(sampler._known) <= complete
    assert {r.pattern for r in driver.study.rows() if r.stopped} <= sampler._seen


# -- replays ----------------------------------------------------------------------------------------------------------

TABLE = """kept_layers,parameters,half,acc
0 1 2 3,100,0.60,0.90
0 1 2,80,0.58,0.88
0 1 3,80,0.40,0.70
1 2 3,80,0.30,0.60
0 1,60,0.35,0.65
2 3,60,0.20,0.50
0,40,0.25,0.55
"""


def test_a_replay_answers_rungs_from_its_columns(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text(TABLE)
    table = read_table(tmp_path / "known.csv", "acc", rungs={0.5: "half"})
    assert table.known["0-2"].rungs == {0.5: 0.58}
    question = replay_of(table, "layers", "RandomSampler", 0, Halving(eta=2, first=0.5))
    study = run_replay(question, How("h", f"{tmp_path}/db", tmp_path / "f"), trials=1000, watcher=Witness())
    done = {r.pattern: (r.score, r.work) for r in study.rows() if r.done}
    assert done["0-3"] == (0.9, 1.0)
    stopped = {r.pattern: r for r in study.rows() if r.stopped}
    assert len(done) + len(stopped) == 7
    assert all(r.work == pytest.approx(0.5 * depth(r.pattern)) for r in stopped.values())
    assert read_study(f"{tmp_path}/db", "h", print).stopped == {0.5: len(stopped)}


def depth(text: str) -> float:
    return Pattern.parse(text).depth / 4


def test_a_table_without_the_rungs_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text(TABLE)
    table = read_table(tmp_path / "known.csv", "acc", rungs={0.5: "half"})
    with pytest.raises(DataError) as error:
        replay_of(table, "layers", "RandomSampler", 0, Halving())
    assert str(error.value) == (
        "known.csv has scores at 0.5 of the training, and halving needs them at 0.111 and 0.333; name their columns, "
        "or give halving other rungs"
    )
    with pytest.raises(DataError, match="no share below 1"):
        replay_of(read_table(tmp_path / "known.csv", "acc"), "layers", "RandomSampler", 0, Halving())


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_halves_confirms_and_says_who_was_stopped(tiny_run: TinyRun, tmp_path: Path) -> None:
    where = ("--storage", f"{tmp_path}/db", "--files", f"{tmp_path}/files", "--workers", "0", "--device", "cpu")
    words = ("run", *tiny_run.what, "--method", "halving", "--trials", "8", "--study", "s", *where)
    said = call(*words)
    assert said.code == 0, said.err
    assert "at rung 0.111, goes on" in said.err
    assert "at rung 0.111, paused" in said.err
    record = read_study(f"{tmp_path}/db", "s", print)
    number = sum(record.stopped.values())
    assert f"{number} of 8 candidates were stopped early, at their rungs" in said.err
    assert "stopped early and not listed: " in said.out
    assert record.purpose.values["halving.eta"] == 3
    assert {r.pattern for r in record.front} <= set(record.confirmed)
    again = call(*words)
    assert again.code == 0
    assert "at rung" not in again.err
    with pytest.raises(LayersearchError, match=r"trial \d+ of .s. was stopped at rung 0\.\d+ with 0\.\d+; take"):
        record.trial(next(r.number for r in record.rows if r.stopped))


def test_a_complete_trial_is_worth_the_same_to_a_search_that_fine_tunes_in_full(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--storage", f"{tmp_path}/db", "--files", f"{tmp_path}/files", "--workers", "0", "--device", "cpu")
    more = ("--trials", "1", "--confirm", "0", *where)
    assert call("run", *tiny_run.what, "--method", "halving", "--study", "h", *more).code == 0
    monkeypatch.setattr(Evaluator, "course", None)
    said = call("run", *tiny_run.what, "--study", "full", *more)
    assert said.code == 0, said.err
    assert "1 trial is known from other studies" in said.err
