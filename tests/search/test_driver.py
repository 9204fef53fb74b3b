"""The course of a run: order, confirmation, stops, failures, checkpoints. Real studies, made-up scores."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from layersearch.errors import TrainingError
from layersearch.search.driver import Driver
from layersearch.search.quality import plateau
from layersearch.search.study import Study
from layersearch.search.trials import front_to_confirm
from layersearch.training.job import Job, Outcome
from tests.search.support import open_study, outcome_of, purpose


@dataclass
class Witness:
    """A watcher that remembers."""

    lines: list[str] = field(default_factory=list)
    phases: list[tuple[str, int]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    rungs: list[tuple[int, float, bool]] = field(default_factory=list)

    def phase(self, study: Study, wanted: int) -> None:
        self.phases.append((study.name, wanted))

    def started(self, job: Job) -> None:
        self.lines.append(job.pattern)

    def reached(self, outcome: Outcome, *, goes_on: bool) -> None:
        self.rungs.append((outcome.number, outcome.rung or 0.0, goes_on))

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def progressed(self, number: int, share: float) -> None:
        self.lines.append(f"{number}: {share:.0%}")

    def reused(self, count: int) -> None:
        self.known.append(count)

    def say(self, line: str) -> None:
        self.lines.append(line)


def work(driver: Driver) -> list[Job]:
    """Work the driver off in a loop."""
    jobs = []
    while not driver.done:
        job = driver.next_job()
        if job is not None:
            jobs.append(job)
            driver.finish(outcome_of(job))
    return jobs


def failed(job: Job, reason: str, *, died: bool = False) -> Outcome:
    return Outcome(job.number, job.pattern, job.seed, reason=reason, lost=died, died=died)


def confirmation_of(search: Study, folder: Path) -> Study:
    """The study of the confirmation, with two fresh seeds, as `run` opens it."""
    wanted = purpose()
    validation = type(wanted)(wanted.values, wanted.metric, wanted.direction, scored_on="validation")
    study = open_study(f"{folder}/db", folder, "s.confirm", wanted=validation, space=None)
    for pattern in front_to_confirm(search.front(), "0-3"):
        for seed in (1, 2):
            study.enqueue(pattern, seed)
    return study


def test_what_another_study_knows_is_told_and_not_handed_out(tmp_path: Path) -> None:
    work(Driver(open_study(f"{tmp_path}/db", tmp_path, "first"), 5, Witness()))
    witness = Witness()
    driver = Driver(open_study(f"{tmp_path}/db", tmp_path, "second"), 5, witness)
    jobs = work(driver)
    assert sum(witness.known) == driver.study.reused == 5 - len(jobs) > 0


def fail(driver: Driver, times: int, reason: str, *, died: bool = False) -> None:
    """Let the next jobs fail."""
    for _ in range(times):
        job = driver.next_job()
        assert job is not None
        driver.finish(failed(job, reason, died=died))


def test_it_ends_when_the_study_holds_the_wanted_number_and_a_larger_number_goes_on(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    assert len(work(Driver(study, 5, Witness()))) == 5
    assert work(Driver(study, 5, Witness())) == []
    assert len(work(Driver(study, 8, Witness()))) == 3
    assert study.finished() == 8


def test_a_space_that_is_worked_off_ends_the_run_early(tmp_path: Path) -> None:
    driver = Driver(open_study(f"{tmp_path}/db", tmp_path), 1000, Witness())
    assert driver.ended == ""
    assert len(work(driver)) == 15
    assert driver.ended == "no pattern is left to try after 15 finished trials"


def test_after_its_time_no_candidate_is_begun_and_what_runs_is_finished_and_confirmed(tmp_path: Path) -> None:
    search = open_study(f"{tmp_path}/db", tmp_path)
    driver = Driver(search, 10, Witness(), then=[lambda: confirmation_of(search, tmp_path)], seconds=60)
    first, second = driver.next_job(), driver.next_job()
    assert first is not None
    assert second is not None
    driver._began -= 60
    driver.finish(outcome_of(first))
    assert driver.next_job() is None
    assert not driver.done  # one is out
    driver.finish(outcome_of(second))
    confirmed = work(driver)
    assert {job.scored_on for job in confirmed} == {"validation"}
    assert {job.pattern for job in confirmed} == {row.pattern for row in search.front()} | {"0-3"}
    assert driver.ended == "60 s are over"
    again = Driver(search, 3, Witness(), seconds=60)  # a new call has its own time
    assert len(work(again)) == 1
    assert again.ended == "3 trials are finished"


def test_a_front_that_stands_still_ends_the_search_and_a_plain_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.search.driver.plateau", partial(plateau, window=3))
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.note(num_layers=4)
    driver = Driver(study, 15, Witness(), until_plateau=True)
    number = len(work(driver))
    assert 3 < number < 15
    assert re.fullmatch(
        r"the front stands still: the last 3 trials added [\d.e-]+ to its hypervolume, "
        r"and the noise of the scores may add 0\.0\d+",
        driver.ended,
    )
    again = Driver(study, 15, Witness(), until_plateau=True)
    assert (again.searched, again.done, work(again)) == (True, True, [])
    assert len(work(Driver(study, number + 1, Witness()))) == 1


def test_no_more_jobs_are_out_than_trials_are_wanted(tmp_path: Path) -> None:
    driver = Driver(open_study(f"{tmp_path}/db", tmp_path), 2, Witness())
    out = [driver.next_job() for _ in range(4)]
    assert [job is None for job in out] == [False, False, True, True]
    assert not driver.done


def test_the_front_and_the_unchanged_model_are_confirmed_on_the_validation_set_with_fresh_seeds(tmp_path: Path) -> None:
    search = open_study(f"{tmp_path}/db", tmp_path)

    jobs = work(Driver(search, 6, Witness(), then=[lambda: confirmation_of(search, tmp_path)]))
    confirmed = jobs[6:]
    front = {row.pattern for row in search.front()}
    assert all(job.scored_on == "search" for job in jobs[:6])
    assert {(j.pattern, j.seed) for j in confirmed} == {(p, s) for p in front | {"0-3"} for s in (1, 2)}
    assert {job.scored_on for job in confirmed} == {"validation"}
    assert {job.checkpoint for job in confirmed} == {None}


def test_a_stop_queues_again_what_is_out(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    driver = Driver(study, 5, Witness())
    out = driver.next_job()
    assert out is not None
    driver.stopping = True
    assert driver.next_job() is None
    driver.abandon("stopped before it was finished")
    assert driver.done
    assert out.pattern in [job.pattern for job in work(Driver(study, 15, Witness()))]


def test_a_set_up_that_fails_every_candidate_alike_stops_after_three(tmp_path: Path) -> None:
    driver = Driver(open_study(f"{tmp_path}/db", tmp_path), 10, Witness())
    fail(driver, 3, "no such label")
    with pytest.raises(TrainingError, match=r"3 of 3 trials failed, the last with: no such label\. Mend the cause"):
        driver.next_job()


def test_workers_that_keep_dying_stop_the_run(tmp_path: Path) -> None:
    driver = Driver(open_study(f"{tmp_path}/db", tmp_path), 10, Witness())
    fail(driver, 3, "the worker process died", died=True)
    with pytest.raises(TrainingError, match="the worker process died"):
        driver.next_job()


def test_single_failures_do_not_stop_the_run(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    driver = Driver(study, 8, Witness())
    number = 0
    while not driver.done:
        job = driver.next_job()
        if job is None:
            continue
        number += 1
        driver.finish(failed(job, f"odd {number}") if number % 3 == 2 else outcome_of(job))
    assert study.finished() == 8


def test_only_checkpoints_of_the_front_stay(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    driver = Driver(study, 15, Witness())
    while not driver.done:
        job = driver.next_job()
        if job is None:
            continue
        assert job.checkpoint is not None
        Path(job.checkpoint).mkdir(parents=True)
        driver.finish(outcome_of(job))
    kept = {folder.name for folder in (study.folder / "checkpoints").iterdir()}
    assert kept == {f"trial-{row.number:05d}" for row in study.front()}


def test_the_trace_of_a_bug_is_kept_in_a_file(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    driver = Driver(study, 3, Witness())
    job = driver.next_job()
    assert job is not None
    driver.finish(Outcome(job.number, job.pattern, job.seed, reason="KeyError: 'x'", trace="Traceback ..."))
    assert (study.folder / "traces" / "trial-00000.txt").read_text() == "Traceback ..."
