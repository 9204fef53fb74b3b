"""Training from rung to rung: a candidate that was put down and taken up again is the one that never was."""

from __future__ import annotations

import copy
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from layersearch.models import checkpoint
from layersearch.models.base import BaseModel
from layersearch.tasks.task import Encoded
from layersearch.training import paused
from layersearch.training.evaluator import Evaluator
from layersearch.training.finetune import begin, finetune, predict
from layersearch.training.job import Job, Outcome
from layersearch.training.steps import Training
from tests.training.conftest import RECIPE

Data = dict[str, Encoded]
RUNGS = (0.25, 0.5, 1.0)
WARM = RECIPE.with_(warmup=0.3, seed=3)


def training(base: BaseModel, data: Data) -> Training:
    return begin(copy.deepcopy(base.model), "classification", WARM, data["train"])


def same(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("through_disk", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
def test_halted_training_gives_the_same_bits(
    base: BaseModel, data: Data, tmp_path: Path, share: float, through_disk: bool
) -> None:
    whole = copy.deepcopy(base.model)
    loss = finetune(whole, "classification", WARM, data["train"])
    halted = training(base, data)
    halted.advance(share)
    predict(halted.model, "classification", data["search"], "fp32")
    if through_disk:
        paused.save(halted.state(), tmp_path / "state")
        halted = training(base, data)
        halted.restore(paused.load(tmp_path / "state") or {})
    torch.rand(5)  # somebody else draws in between
    assert halted.done == pytest.approx(share, abs=0.03)
    assert halted.advance(1.0) == loss
    assert same(halted.model, whole)


def test_a_job_with_rungs_ends_as_one_without_wherever_it_was_put_down(evaluator: Evaluator, tmp_path: Path) -> None:
    plain = evaluator(Job(0, "0-1 3", 5, checkpoint=str(tmp_path / "plain")))
    job = Job(0, "0-1 3", 5, checkpoint=str(tmp_path / "halved"), rungs=RUNGS, state=str(tmp_path / "p" / "trial-0"))
    outcomes = [next(evaluator.course(job))]
    second = evaluator.course(replace(job, rungs=RUNGS[1:]))
    outcomes.append(next(second))
    second.close()
    outcomes += evaluator.course(replace(job, rungs=RUNGS[2:]))
    assert [outcome.rung for outcome in outcomes] == [0.25, 0.5, None]
    last = outcomes[-1]
    assert (last.score, last.metrics, last.train_loss) == (plain.score, plain.metrics, plain.train_loss)
    assert (last.parameters, last.examples, last.interval) == (plain.parameters, plain.examples, plain.interval)
    assert same(checkpoint.load(tmp_path / "plain")[0], checkpoint.load(tmp_path / "halved")[0])
    assert [outcome.checkpoint for outcome in outcomes[:2]] == [None, None]


def test_what_it_cost_adds_up_over_the_rungs(evaluator: Evaluator, tmp_path: Path) -> None:
    job = Job(0, "0-1", 5, rungs=RUNGS, state=str(tmp_path / "trial-0"))
    plain = evaluator(replace(job, rungs=()))
    first = next(evaluator.course(job))
    rest = list(evaluator.course(replace(job, rungs=RUNGS[1:])))
    works = [outcome.work for outcome in (first, *rest)]
    scoring = len(evaluator.data["search"]) / (3 * len(evaluator.data["train"]) * RECIPE.epochs) / 2
    assert plain.work == pytest.approx(0.5 + scoring)
    assert works == pytest.approx([0.125 + scoring, 0.25 + 2 * scoring, 0.5 + 3 * scoring])
    assert rest[-1].train_seconds > first.train_seconds
    assert rest[-1].seconds > rest[0].seconds > first.seconds
    assert first.examples == plain.examples / 4


def test_going_on_at_once_reads_nothing_back(
    evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    monkeypatch.setattr(paused, "load", reads.append)
    job = Job(0, "0-1", 5, rungs=RUNGS, state=str(tmp_path / "trial-0"))
    assert [outcome.rung for outcome in evaluator.course(job)] == [0.25, 0.5, None]
    assert len(reads) == 1  # before the first step


def counted(evaluator: Evaluator, job: Job) -> tuple[list[Outcome], int]:
    """The outcomes of a job, and the steps that it took."""
    beats: list[float] = []
    outcomes = list(evaluator.course(job, beats.append))
    return outcomes, len(dict.fromkeys(beats)) if beats else 0


def test_a_state_that_is_gone_damaged_or_of_another_candidate_only_costs_the_work_again(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    file = tmp_path / "trial-0"
    job = Job(0, "0-1", 5, rungs=RUNGS, state=str(file))
    plain = evaluator(replace(job, rungs=()))
    whole, steps = counted(evaluator, replace(job, rungs=(1.0,)))
    assert steps == 24
    next(evaluator.course(job))
    good = file.read_bytes()
    ahead = replace(job, rungs=RUNGS[1:])
    assert counted(evaluator, replace(ahead, rungs=(1.0,)))[1] == 18
    for content in (b"", good[: len(good) // 2], b"nonsense"):
        file.write_bytes(content)
        found, steps = counted(evaluator, replace(ahead, rungs=(1.0,)))
        assert (found[-1].score, steps) == (plain.score, 24)
    file.write_bytes(good)
    assert counted(evaluator, replace(ahead, rungs=(1.0,), pattern="0 2"))[1] == 24
    assert counted(evaluator, replace(ahead, rungs=(1.0,), seed=6))[1] == 24
    assert whole[-1].score == plain.score


def test_a_state_ahead_of_the_study_is_scored_again_and_one_too_far_ahead_is_not_used(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    """The driver was killed between the state and the telling; or its database is an older copy."""
    job = Job(0, "0-1", 5, rungs=RUNGS, state=str(tmp_path / "trial-0"))
    told = next(evaluator.course(job))
    again = next(evaluator.course(job))
    assert (again.rung, again.score) == (0.25, told.score)
    course = evaluator.course(job)
    scores = [next(course).score, next(course).score]
    course.close()
    fresh = evaluator.course(job)  # the state is that of 0.5, and 0.25 is asked for
    assert [next(fresh).score, next(fresh).score] == scores


def test_a_full_disk_costs_the_state_and_not_the_score(
    evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    job = Job(0, "0-1", 5, rungs=RUNGS, state=str(tmp_path / "trial-0"))
    first = next(evaluator.course(job))
    assert first.score is not None
    assert first.note is not None
    assert first.note.startswith("state not kept, it would be trained again: ")
    assert "No space left" in first.note
    assert not list(tmp_path.iterdir())


def test_the_old_state_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trial-0"
    paused.save({"step": 1}, file)

    def half(_values: object, stream: Any) -> None:
        stream.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="PytorchStreamWriter failed"):
        paused.save({"step": 2}, file)
    assert paused.load(file) == {"step": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["trial-0"]


def test_a_failure_at_a_rung_is_the_last_outcome(
    evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(0, "0-1", 5, rungs=RUNGS, state=str(tmp_path / "trial-0"))
    course = evaluator.course(job)
    assert next(course).score is not None
    monkeypatch.setattr(Training, "advance", lambda *_: 1 / 0)
    outcomes = list(course)
    assert [outcome.reason for outcome in outcomes] == ["ZeroDivisionError: division by zero"]
    assert outcomes[0].rung is None
