"""A study as a reader sees it: what is listed, which trial can be taken, where weights still are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.errors import WordsError
from layersearch.search.record import Record, read_study
from layersearch.search.study import Study
from layersearch.training.job import Job, Outcome
from tests.search.support import open_study, outcome_of


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.note(num_layers=4, parameters=1400)
    return study


def read(tmp_path: Path) -> Record:
    return read_study(f"{tmp_path}/db", "s", print)


def asked(study: Study) -> Job:
    job = study.ask()
    assert job is not None
    return job


def refused(record: Record, number: int) -> str:
    with pytest.raises(WordsError) as caught:
        record.trial(number)
    return str(caught.value)


def test_an_unchanged_model_that_is_beaten_is_listed_before_the_front(study: Study, tmp_path: Path) -> None:
    study.tell(outcome_of(asked(study)))
    before = read(tmp_path)
    assert [(r["trial"], r["on_front"]) for r in before.records()] == [(0, True)]
    better = asked(study)
    study.tell(replace(outcome_of(better), score=0.99))
    beaten = asked(study)
    study.tell(replace(outcome_of(beaten), score=0.01, parameters=1390))
    record = read(tmp_path)
    assert [row.number for row in record.front] == [better.number]
    assert record.shown() == [record.rows[0], *record.front]
    assert [(r["trial"], r["on_front"]) for r in record.records()] == [(0, False), (better.number, True)]
    everything = [(r["trial"], r["on_front"]) for r in record.records(everything=True)]
    assert everything == [(0, False), (better.number, True), (beaten.number, False)]


def test_a_checkpoint_that_was_dropped_is_not_named(study: Study, tmp_path: Path) -> None:
    for folder in ("kept", "gone"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "manifest.json").write_text('{"size": 0}')
        (tmp_path / folder / "model.safetensors").touch()
        study.tell(replace(outcome_of(asked(study)), checkpoint=f"{tmp_path}/{folder}"))
    assert [r["weights_kept"] for r in read(tmp_path).records(everything=True)] == [True, True]
    (tmp_path / "gone" / "model.safetensors").unlink()
    record = read(tmp_path)
    assert [row.checkpoint for row in record.rows] == [f"{tmp_path}/kept", None]
    assert [r["weights_kept"] for r in record.records(everything=True)] == [True, False]


def test_a_trial_that_cannot_be_taken_says_why_and_what_stands_for_it(study: Study, tmp_path: Path) -> None:
    failed, running = asked(study), asked(study)
    study.tell(Outcome(failed.number, failed.pattern, failed.seed, reason="the loss is nan at step 3"))
    study._study.enqueue_trial({})
    record = read(tmp_path)
    waiting = max(record.spelled_none)
    assert refused(record, failed.number) == "trial 0 of 's' failed (the loss is nan at step 3); take another"
    assert refused(record, running.number) == "trial 1 of 's' is running; take another"
    assert refused(record, waiting) == f"trial {waiting} of 's' waits for its turn; take another"
    assert refused(record, 99) == "study 's' has no trial 99; `layersearch front --all` lists those with a score"


def test_a_repeat_and_a_stopped_trial_name_the_one_that_has_their_score(study: Study, tmp_path: Path) -> None:
    job = asked(study)
    study.tell(outcome_of(job))
    done = read(tmp_path).rows[0]
    repeat = replace(done, number=7, state="PRUNED", score=None, reason="repeat of trial 0")
    stopped = replace(done, number=8, state="FAIL", score=None, lost=True, reason="stopped before it was finished")
    record = replace(read(tmp_path), rows=(done, repeat, stopped))
    assert refused(record, 7) == "trial 7 of 's' is a repeat of trial 0; take trial 0, which has its pattern"
    assert refused(record, 8) == (
        "trial 8 of 's' was stopped and queued again (stopped before it was finished); "
        "take trial 0, which has its pattern"
    )
    assert record.trial(0) == done
