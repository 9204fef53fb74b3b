"""The study: ask, tell, heal, know, refuse. Against real SQLite files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from layersearch.errors import StudyError, WordsError
from layersearch.search.purpose import Purpose
from layersearch.search.record import read_study
from layersearch.search.study import Study
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import TRAINING
from tests.search.support import LAYERS, SPACE, open_study, outcome_of, purpose


def work(study: Study, trials: int) -> list[Job]:
    """Ask and tell until `trials` are finished or nothing is left."""
    jobs = []
    while study.finished() < trials and (job := study.ask()) is not None:
        study.tell(outcome_of(job))
        jobs.append(job)
    return jobs


def trials_of(folder: Path, name: str = "s") -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{folder}/db"
    return optuna.load_study(study_name=name, storage=storage).trials


def test_the_unchanged_model_is_trial_0_and_the_named_strategies_follow(tmp_path: Path) -> None:
    jobs = work(open_study(f"{tmp_path}/db", tmp_path), 5)
    assert [job.pattern for job in jobs] == [str(p) for p in SPACE.start_points(LAYERS)[:5]]
    assert (jobs[0].number, jobs[0].pattern) == (0, "0-3")


def test_later_named_patterns_stand_between_the_samplers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layersearch.search.starts.NAMED_FIRST", 2)
    study = open_study(f"{tmp_path}/db", tmp_path)
    jobs = work(study, 9)
    assert jobs[0].number == 0
    assert jobs[0].pattern == "0-3"
    named = [str(pattern) for pattern in SPACE.start_points(LAYERS)]
    assert [jobs[turn].pattern for turn in (0, 1)] == named[:2]
    for turn in (4, 7):  # every third; what the sampler tried of itself is not tried again
        before = [job.pattern for job in jobs[:turn]]
        assert jobs[turn].pattern == next(pattern for pattern in named if pattern not in before)


def test_no_pattern_is_handed_out_twice_and_a_small_space_is_worked_off_to_its_end(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    jobs = work(study, 1000)
    patterns = [job.pattern for job in jobs]
    assert sorted(patterns) == sorted({str(p) for p in SPACE.patterns(LAYERS)})
    assert study.ask() is None
    states = {t.state for t in trials_of(tmp_path)}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_trial_carries_named_values_and_short_plain_attributes(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    work(study, 2)
    loaded = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/db")
    assert loaded.metric_names == ["acc", "parameters"]
    assert [d.name for d in loaded.directions] == ["MAXIMIZE", "MINIMIZE"]
    trial = loaded.trials[1]
    assert trial.values == [pytest.approx(0.5 + 0.08 + 0.07 + 0.06), 1300.0]
    assert trial.user_attrs["pattern"] == "0-2"
    assert {"seconds", "train_seconds", "seed", "interval", "metrics", "driver"} <= set(trial.user_attrs)
    assert "reason" not in trial.user_attrs


def test_a_failure_is_fail_with_its_reason_and_is_not_tried_again(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    job = study.ask()
    assert job is not None
    study.tell(Outcome(job.number, job.pattern, job.seed, reason="the loss is nan at step 3"))
    later = [j.pattern for j in work(study, 1000)]
    assert job.pattern not in later
    trial = trials_of(tmp_path)[job.number]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == "the loss is nan at step 3"


def test_a_lost_trial_is_queued_again_with_the_same_parameters(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    job = study.ask()
    assert job is not None
    study.tell(Outcome(job.number, job.pattern, job.seed, reason="stopped", lost=True))
    assert job.pattern in [j.pattern for j in work(study, 1000)]


def test_a_pattern_whose_worker_dies_again_and_again_fails_for_good(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    deaths = 0
    while (job := study.ask()) is not None:
        if job.pattern == "0-2":
            deaths += 1
            study.tell(Outcome(job.number, job.pattern, job.seed, reason="died", lost=True, died=True))
        else:
            study.tell(outcome_of(job))
    assert deaths == 3


def test_what_a_dead_driver_left_running_is_healed_by_the_next(tmp_path: Path) -> None:
    first = open_study(f"{tmp_path}/db", tmp_path)
    work(first, 2)
    left = first.ask()
    assert left is not None
    first._lease.release()
    second = open_study(f"{tmp_path}/db", tmp_path)
    trial = trials_of(tmp_path)[left.number]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == "the driver died while it ran"
    jobs = work(second, 1000)
    assert [j.pattern for j in jobs].count(left.pattern) == 1
    assert not [t for t in trials_of(tmp_path) if t.state == TrialState.RUNNING]


def test_a_finished_result_in_the_outbox_is_told_by_the_next_driver(tmp_path: Path) -> None:
    first = open_study(f"{tmp_path}/db", tmp_path)
    job = first.ask()
    assert job is not None
    first._outbox.put(outcome_of(job))  # killed between the outbox and the tell
    first._lease.release()
    second = open_study(f"{tmp_path}/db", tmp_path)
    assert second.finished() == 1
    assert second.rows()[0].score == pytest.approx(outcome_of(job).score)
    assert not list((tmp_path / "s" / "outbox").iterdir())


def test_telling_twice_changes_nothing(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    job = study.ask()
    assert job is not None
    study.tell(outcome_of(job))
    study.tell(outcome_of(job))
    assert study.finished() == 1


def test_a_continued_study_goes_on_with_the_named_patterns_where_it_was(tmp_path: Path) -> None:
    first = open_study(f"{tmp_path}/db", tmp_path, sampler="RandomSampler")
    begun = [job.pattern for job in work(first, 4)]
    first._lease.release()
    later = work(open_study(f"{tmp_path}/db", tmp_path, sampler="RandomSampler"), 5)
    named = [str(pattern) for pattern in SPACE.start_points(LAYERS)]
    assert [job.pattern for job in later] == [next(pattern for pattern in named if pattern not in begun)]


def test_another_purpose_is_refused_naming_every_key_and_both_values(tmp_path: Path) -> None:
    open_study(f"{tmp_path}/db", tmp_path)._lease.release()
    message = "revision is 'r1' there and 'r2' here"
    with pytest.raises(StudyError, match=message):
        open_study(f"{tmp_path}/db", tmp_path, wanted=purpose(revision="r2"))
    with pytest.raises(StudyError, match=re.escape("lr is not given there and 0.1 here")):
        open_study(f"{tmp_path}/db", tmp_path, "s", wanted=purpose(lr=0.1))


def before_versions(storage: str, name: str) -> None:
    """Let a study be as it was made before a version of the training was stored."""
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{storage}")
    study.set_user_attr("purpose", {k: v for k, v in study.user_attrs["purpose"].items() if k != "training"})


def test_a_study_of_another_version_of_the_training_is_read_and_neither_goes_on_nor_lends_scores(
    tmp_path: Path,
) -> None:
    first = open_study(f"{tmp_path}/db", tmp_path)
    known = work(first, 3)
    first._lease.release()
    before_versions(f"{tmp_path}/db", "s")
    message = (
        f"study 's' was trained in version 1 of the training, and this layersearch trains in version {TRAINING}: the "
        "same recipe gives other scores. Search again under a new --study; what this one has can be read and exported"
    )
    with pytest.raises(StudyError, match=f"^{re.escape(message)}$"):
        open_study(f"{tmp_path}/db", tmp_path)
    older = read_study(f"{tmp_path}/db", "s", print)
    assert (len(older.rows), older.purpose.training) == (len(known), 1)
    assert older.purpose.mark == purpose().mark, "folders and tables that it made are still found"
    second = open_study(f"{tmp_path}/db", tmp_path, "second", wanted=purpose(sampler="RandomSampler"))
    work(second, 8)
    assert not [row for row in second.rows() if row.reused]


def test_what_a_table_answers_goes_on_whatever_version_trains(tmp_path: Path) -> None:
    open_study(f"{tmp_path}/db", tmp_path, wanted=purpose(replay="x"))._lease.release()
    before_versions(f"{tmp_path}/db", "s")
    again = open_study(f"{tmp_path}/db", tmp_path, wanted=purpose(replay="x"))
    assert again.rows() == [], "it is opened, as it was"


def test_a_study_of_somebody_else_is_refused(tmp_path: Path) -> None:
    foreign = optuna.create_study(
        study_name="s", storage=f"sqlite:///{tmp_path}/db", directions=["maximize", "minimize"]
    )
    foreign.add_trial(optuna.trial.create_trial(values=[1, 2]))
    with pytest.raises(StudyError, match="was not made by layersearch"):
        open_study(f"{tmp_path}/db", tmp_path)


def test_two_drivers_of_one_study_on_sqlite_are_kept_apart(tmp_path: Path) -> None:
    first = open_study(f"{tmp_path}/db", tmp_path)
    with pytest.raises(StudyError, match=r"is being driven by another process \(the test\)"):
        open_study(f"{tmp_path}/db", tmp_path)
    open_study(f"{tmp_path}/db", tmp_path, "another")
    assert len(list((tmp_path / ".db.locks").glob("*.lock"))) == 2
    assert not list(tmp_path.glob("*.lock"))  # nothing of them lies beside the user's own files
    first._lease.release()
    open_study(f"{tmp_path}/db", tmp_path)


def test_an_evaluation_in_another_study_of_the_database_is_taken_over_untrained(tmp_path: Path) -> None:
    first = open_study(f"{tmp_path}/db", tmp_path, "first")
    known = {job.pattern for job in work(first, 8)}
    second = open_study(f"{tmp_path}/db", tmp_path, "second", wanted=purpose(sampler="RandomSampler"))
    trained = {job.pattern for job in work(second, 12)}
    assert not known & trained
    reused = [row for row in second.rows() if row.reused]
    assert {row.pattern for row in reused} <= known
    assert len(reused) == 8
    assert reused[0].reused == "trial 0 of first"


def test_an_evaluation_with_another_recipe_is_not_taken_over(tmp_path: Path) -> None:
    work(open_study(f"{tmp_path}/db", tmp_path, "first"), 8)
    second = open_study(f"{tmp_path}/db", tmp_path, "second", wanted=purpose(lr=0.5))
    work(second, 8)
    assert not [row for row in second.rows() if row.reused]


def test_without_a_space_only_what_is_queued_is_asked_each_pattern_and_seed_once(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path, space=None, sampler="RandomSampler")
    for _ in range(2):
        for seed in (1, 2):
            study.enqueue("0-2", seed)
    assert sorted((j.pattern, j.seed) for j in work(study, 100)) == [("0-2", 1), ("0-2", 2)]
    assert study.ask() is None


def test_an_unknown_sampler_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(WordsError, match=r"unknown sampler 'NSGA' \(did you mean 'NSGAIISampler'\?\); allowed: .*"):
        open_study(f"{tmp_path}/db", tmp_path, sampler="NSGA")


@pytest.mark.parametrize(
    "sampler", ["RandomSampler", "TPESampler", "NSGAIIISampler", "QMCSampler", "BruteForceSampler"]
)
def test_every_fit_sampler_works_a_space_off(tmp_path: Path, sampler: str) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path, sampler=sampler)
    assert len(work(study, 12)) == 12


def test_a_purpose_survives_storage() -> None:
    stored = purpose(lr=0.1).as_dict()
    assert Purpose.from_dict(stored) == purpose(lr=0.1)
    assert stored["training"] == TRAINING


def test_reuse_alone_can_fill_a_study_and_does_not_overfill_it(tmp_path: Path) -> None:
    work(open_study(f"{tmp_path}/db", tmp_path, "first"), 15)
    second = open_study(f"{tmp_path}/db", tmp_path, "second", wanted=purpose(sampler="RandomSampler"))
    assert second.ask(6) is None
    assert second.finished() == 6


def test_the_same_seed_takes_the_same_course(tmp_path: Path) -> None:
    courses = [[job.pattern for job in work(open_study(f"{tmp_path}/db{n}", tmp_path / str(n)), 12)] for n in (1, 2)]
    assert courses[0] == courses[1]


def test_a_lost_trial_whose_driver_died_before_queueing_it_again_is_queued_by_the_next(tmp_path: Path) -> None:
    first = open_study(f"{tmp_path}/db", tmp_path)
    job = first.ask()
    assert job is not None
    first._close(job.number, TrialState.FAIL, {"reason": "stopped", "lost": True})  # and killed here
    first._lease.release()
    jobs = work(open_study(f"{tmp_path}/db", tmp_path), 1000)
    assert [j.pattern for j in jobs].count(job.pattern) == 1


def test_an_outcome_of_another_study_in_the_outbox_is_not_told(tmp_path: Path) -> None:
    first = open_study(f"{tmp_path}/db", tmp_path)
    job = first.ask()
    assert job is not None
    first._outbox.put(replace(outcome_of(job), pattern="1"))
    first._lease.release()
    assert open_study(f"{tmp_path}/db", tmp_path).finished() == 0
