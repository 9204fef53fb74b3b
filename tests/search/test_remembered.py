"""What a lone driver remembers is what the database holds; what belongs together is written together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from layersearch.search.ledger import Ledger
from layersearch.search.remembered import Remembered
from layersearch.search.storage import PatientStorage, open_storage, parse_url
from layersearch.search.study import Study
from tests.search.support import open_study, outcome_of

CHOICES = ("keep", "drop")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[PatientStorage]:
    opened = open_storage(parse_url(f"{tmp_path}/db"), lambda _: None, create=True)
    yield opened
    opened.engine.dispose()


def new_study(storage: PatientStorage) -> optuna.Study:
    return optuna.create_study(storage=Remembered(storage), study_name="s", directions=["maximize", "minimize"])


def in_the_database(storage: PatientStorage) -> list[FrozenTrial]:
    study_id = storage.get_study_id_from_name("s")
    return storage.get_all_trials(study_id)


def without_times(trials: list[FrozenTrial]) -> list[dict[str, object]]:
    times = {"_datetime_start", "datetime_complete"}
    return [{name: value for name, value in vars(trial).items() if name not in times} for trial in trials]


def test_every_write_changes_the_picture_as_it_changes_the_database(storage: PatientStorage) -> None:
    study = new_study(storage)
    study.enqueue_trial({"layer_0": "drop"}, user_attrs={"why": "named"})
    queued, free, left = study.ask(), study.ask(), study.ask()
    for trial in (queued, free):
        trial.suggest_categorical("layer_0", CHOICES)
        trial.set_user_attr("pattern", "0")
        study._storage.set_trial_system_attr(trial._trial_id, "generation", 3)
    study._storage.set_trial_intermediate_value(free._trial_id, 1, 0.25)
    study.tell(queued, [0.5, 10])
    study.tell(free, state=TrialState.FAIL)
    study.add_trial(create_trial(values=[0.7, 3], params={}, distributions={}))
    study.enqueue_trial({"layer_0": "keep"})
    remembered = study.get_trials()
    assert without_times(remembered) == without_times(in_the_database(storage))
    assert [trial.state.name for trial in remembered] == ["COMPLETE", "FAIL", "RUNNING", "COMPLETE", "WAITING"]
    assert study._storage.get_trial(left._trial_id).state == TrialState.RUNNING


def test_trials_are_read_as_optuna_reads_them_in_any_time_zone(
    storage: PatientStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    study = new_study(storage)
    study.enqueue_trial({"layer_0": "drop"}, user_attrs={"why": {"deep": [1, None]}})
    for values in ([0.5, float("inf")], None, [float("-inf"), 3.0]):
        trial = study.ask({"layer_0": CategoricalDistribution(CHOICES), "lr": FloatDistribution(0.1, 1.0)})
        with storage.together():
            study._storage.set_trial_intermediate_value(trial._trial_id, 7, 0.5)
            study._storage.set_trial_system_attr(trial._trial_id, "generation", 3)
            study.tell(trial, values, state=None if values else TrialState.FAIL)
    study.ask()
    study.enqueue_trial({})
    study_id = study._study_id
    questions: list[tuple[tuple[TrialState, ...] | None, set[int], int]]
    questions = [(None, set(), -1), ((TrialState.COMPLETE,), set(), -1), (None, {1, 2, 9}, 3), (None, set(), 3)]
    for asked in questions:
        assert storage._get_trials(study_id, *asked) == RDBStorage._get_trials(storage, study_id, *asked)
    remembered = study.get_trials()[0].datetime_complete
    written = in_the_database(storage)[0].datetime_complete
    assert remembered is not None
    assert written is not None
    assert abs(remembered - written).total_seconds() < 60
    monkeypatch.undo()
    time.tzset()


def test_what_was_handed_out_does_not_change_under_the_hand(storage: PatientStorage) -> None:
    study = new_study(storage)
    trial = study.ask()
    before = study.get_trials(deepcopy=False)[0]
    trial.set_user_attr("pattern", "0")
    study.tell(trial, [0.5, 10])
    assert before.user_attrs == {}
    assert before.state == TrialState.RUNNING


def test_a_picture_begins_with_what_is_there(storage: PatientStorage) -> None:
    first = new_study(storage)
    first.tell(first.ask(), [0.5, 10])
    again = optuna.load_study(storage=Remembered(storage), study_name="s")
    again.tell(again.ask(), [0.6, 10])
    assert [trial.values for trial in again.get_trials()] == [[0.5, 10], [0.6, 10]]


def test_nothing_is_read_between_the_writes_of_a_turn(storage: PatientStorage) -> None:
    study = new_study(storage)
    study.tell(study.ask(), [0.5, 10])
    statements: list[str] = []
    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", lambda *about: statements.append(about[2]))
    for _ in range(5):
        study.get_trials(deepcopy=False)
        Ledger(study, "maximize").front()
    assert statements == []


def test_parameters_and_attributes_of_a_trial_are_one_transaction(storage: PatientStorage) -> None:
    study = new_study(storage)
    study.ask({f"layer_{n}": CategoricalDistribution(CHOICES) for n in range(6)})  # so that Optuna knows them
    trial = study.ask()
    commits: list[object] = []
    sqlalchemy.event.listen(storage.engine, "commit", commits.append)
    with storage.together():
        for n in range(6):
            trial.suggest_categorical(f"layer_{n}", CHOICES)
        for name in ("pattern", "seed", "driver"):
            trial.set_user_attr(name, 1)
        trial.set_user_attr("seed", 2)
        assert in_the_database(storage)[1].params == {}
        written = len(commits)
    assert len(commits) == written + 1
    held = in_the_database(storage)[1]
    assert held.params == trial.params
    assert held.user_attrs == {"pattern": 1, "seed": 2, "driver": 1}
    with storage.together():
        trial.set_user_attr("seed", 3)
    assert in_the_database(storage)[1].user_attrs["seed"] == 3


def raising(trial: optuna.Trial) -> None:
    trial.set_user_attr("pattern", "0")
    raise KeyError


def test_nothing_is_written_of_what_raised(storage: PatientStorage) -> None:
    study = new_study(storage)
    trial = study.ask()
    with pytest.raises(KeyError), storage.together():
        raising(trial)
    assert in_the_database(storage)[0].user_attrs == {}
    trial.set_user_attr("seed", 1)  # and what follows is written at once
    assert in_the_database(storage)[0].user_attrs == {"seed": 1}


def test_a_finished_trial_takes_no_more(storage: PatientStorage) -> None:
    study = new_study(storage)
    trial = study.ask()
    study.tell(trial, [0.5, 10])
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError), storage.together():
        storage.set_trial_user_attr(trial._trial_id, "pattern", "0")


def test_a_write_whose_answer_was_lost_may_come_again(storage: PatientStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database has committed, the connection breaks before it says so, and the patient storage tries again."""
    write = PatientStorage.write_trial
    monkeypatch.setattr(PatientStorage, "write_trial", lambda *given: [write(*given), write(*given)])
    study = new_study(storage)
    trial = study.ask()
    with storage.together():
        trial.suggest_categorical("layer_0", CHOICES)
        trial.set_user_attr("seed", 1)
    with storage.together():
        study.tell(trial, [0.5, 10])
    found = in_the_database(storage)[0]
    assert (found.params, found.user_attrs, found.values) == (trial.params, {"seed": 1}, [0.5, 10])


def test_another_choice_than_before_is_refused(storage: PatientStorage) -> None:
    study = new_study(storage)
    study.ask().suggest_categorical("layer_0", CHOICES)
    trial = study.ask()
    with (
        pytest.raises(ValueError, match="CategoricalDistribution does not support dynamic value space"),
        storage.together(),
    ):
        trial.suggest_categorical("layer_0", ("keep", "drop", "ffn"))


def test_a_turn_of_the_driver_waits_for_the_disk_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna alone would commit every parameter and every attribute by itself: 20 times for four layers."""
    monkeypatch.setattr("layersearch.search.starts.NAMED_FIRST", 2)  # queueing a named pattern is a commit more
    study = open_study(f"{tmp_path}/db", tmp_path, sampler="PatternSampler")
    for _ in range(3):
        turn(study)
    storage = study._storage
    written: list[str] = []
    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", lambda *about: written.append(about[2]))
    commits: list[int] = []
    sqlalchemy.event.listen(storage.engine, "commit", lambda _: commits.append(writes(written)))
    turn(study)  # made, spelled; told
    assert len({count for count in commits if count}) == 3


def turn(study: Study) -> None:
    job = study.ask()
    assert job is not None
    study.tell(outcome_of(job))


def writes(statements: list[str]) -> int:
    return sum(statement.startswith(("INSERT", "UPDATE", "DELETE")) for statement in statements)


def test_the_ledger_reads_again_only_after_a_change(storage: PatientStorage) -> None:
    study = new_study(storage)
    ledger = Ledger(study, "maximize")
    assert (ledger.rows(), ledger.waiting(), ledger.finished(), ledger.front()) == ([], False, 0, [])
    for text, values in (("0-1", [0.9, 20]), ("0", [0.5, 10]), ("1", [0.4, 10])):
        trial = study.ask()
        trial.set_user_attr("pattern", text)
        study.tell(trial, values)
    study.enqueue_trial({})
    assert ledger.rows() == []
    ledger.changed()
    assert [row.pattern for row in ledger.rows()] == ["0-1", "0", "1"]
    assert [row.pattern for row in ledger.front()] == ["0-1", "0"]
    assert (ledger.finished(), ledger.waiting()) == (3, True)
    study.ask().set_user_attr("pattern", "0-1")
    ledger.changed()
    assert (ledger.rows()[3].state, ledger.waiting()) == ("RUNNING", False)
    assert ledger.rows()[0] is Ledger.rows(ledger)[0]
