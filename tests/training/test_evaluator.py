"""One job in, one outcome out: scores, reasons, traces, and weights that are kept only when they count."""

from __future__ import annotations

import dataclasses
import errno
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from layersearch.errors import LayersearchError, StoppedError, TrainingError
from layersearch.models import checkpoint
from layersearch.training import evaluator as module
from layersearch.training import finetune
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Job, Outcome


def raising(error: Exception) -> Any:
    """A function that raises `error` whatever it is given."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_an_outcome_says_everything_about_its_candidate(evaluator: Evaluator, tmp_path: Path) -> None:
    outcome = evaluator(Job(number=3, pattern="0-1 3", seed=5, checkpoint=str(tmp_path / "c")))
    assert (outcome.number, outcome.pattern, outcome.seed, outcome.reason) == (3, "0-1 3", 5, None)
    assert outcome.score == outcome.metrics["accuracy"]
    assert outcome.interval is not None
    assert outcome.interval[0] <= (outcome.score or 0) <= outcome.interval[1]
    model, manifest = checkpoint.load(tmp_path / "c")
    assert outcome.parameters == manifest.parameters == sum(p.numel() for p in model.parameters())
    assert outcome.seconds >= outcome.train_seconds + outcome.score_seconds
    assert manifest.extras["trial"] == 3


def test_the_base_model_is_left_as_it_was(evaluator: Evaluator) -> None:
    before = {name: tensor.clone() for name, tensor in evaluator.base.model.state_dict().items()}
    evaluator(Job(0, "0 0 2a", 1))
    after = evaluator.base.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_one_job_gives_one_score_whatever_ran_before(evaluator: Evaluator) -> None:
    first = evaluator(Job(0, "0-2", 4))
    evaluator(Job(1, "1", 9))
    second = evaluator(Job(2, "0-2", 4))
    assert (first.score, first.train_loss) == (second.score, second.train_loss)


def test_the_split_that_scores_is_the_jobs(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    real = finetune.measure

    def watched(*args: Any) -> Any:
        scored.append(len(args[2]))
        return real(*args)

    monkeypatch.setattr(module, "measure", watched)
    evaluator(Job(0, "0", 0))
    evaluator(Job(1, "0", 0, scored_on="validation"))
    assert scored == [len(evaluator.data["search"]), len(evaluator.data["validation"])]


def test_a_candidate_that_diverges_comes_back_with_the_reason_and_no_trace(evaluator: Evaluator) -> None:
    broken = dataclasses.replace(evaluator, base=dataclasses.replace(evaluator.base, model=poisoned(evaluator)))
    outcome = broken(Job(7, "0-3", 0))
    assert outcome.score is None
    assert outcome.reason == "the loss is nan at step 16: the training diverged; try a lower learning rate"
    assert (outcome.trace, outcome.lost, outcome.died) == (None, False, False)


def poisoned(evaluator: Evaluator) -> Any:
    import copy

    model = copy.deepcopy(evaluator.base.model)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    return model


def test_a_pattern_that_does_not_fit_is_a_reason(evaluator: Evaluator) -> None:
    outcome = evaluator(Job(0, "0-9", 0))
    assert outcome.reason is not None
    assert "layer" in outcome.reason
    assert outcome.trace is None


@pytest.mark.parametrize(
    ("error", "reason", "lost"),
    [
        (TrainingError("the score is nan"), "the score is nan", False),
        (MemoryError(), "out of memory on cpu: start fewer workers or a smaller batch", True),
        (torch.OutOfMemoryError("2 GiB"), "out of memory on cpu: start fewer workers or a smaller batch", True),
    ],
)
def test_what_a_user_can_mend_has_a_reason_without_a_trace_and_memory_is_not_the_patterns_fault(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, lost: bool
) -> None:
    monkeypatch.setattr(module, "measure", raising(error))
    outcome = evaluator(Job(0, "0", 0))
    assert (outcome.reason, outcome.trace, outcome.lost, outcome.died) == (reason, None, lost, lost)


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug\nin two lines"), KeyError()])
def test_a_bug_has_one_line_of_reason_and_a_trace(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(module, "measure", raising(error))
    outcome = evaluator(Job(0, "0", 0))
    assert outcome.reason is not None
    assert outcome.reason.startswith(type(error).__name__)
    assert "\n" not in outcome.reason
    assert outcome.trace is not None
    assert "Traceback" in outcome.trace


def test_a_stop_passes_through(evaluator: Evaluator) -> None:
    with pytest.raises(StoppedError):
        evaluator(Job(0, "0", 0), raising(StoppedError("stopped")))


@pytest.mark.parametrize(
    ("front", "kept"),
    [
        ((), True),
        (((2.0, 10**9),), True),  # better and larger
        (((-1.0, 1),), True),  # worse and smaller
        (((2.0, 1),), False),  # better and smaller
    ],
)
def test_weights_are_written_only_if_the_front_has_nothing_as_good(
    evaluator: Evaluator, tmp_path: Path, front: tuple[tuple[float, int], ...], kept: bool
) -> None:
    folder = tmp_path / "c"
    outcome = evaluator(Job(0, "0", 0, checkpoint=str(folder), front=front))
    assert outcome.score is not None
    assert checkpoint.is_complete(folder) is kept
    assert outcome.checkpoint == (str(folder) if kept else None)


def test_an_equal_member_of_the_front_beats_a_newcomer(evaluator: Evaluator, tmp_path: Path) -> None:
    first = evaluator(Job(0, "0", 0))
    assert first.score is not None
    assert first.parameters is not None
    again = Job(1, "0", 0, checkpoint=str(tmp_path / "c"), front=((first.score, first.parameters),))
    assert evaluator(again).checkpoint is None


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "weights not kept: [Errno 28] No space left on device"),
        (
            LayersearchError("no room on the disk for c: 9 MB needed"),
            "weights not kept: no room on the disk for c: 9 MB",
        ),
    ],
)
def test_a_full_disk_costs_the_weights_and_not_the_score(
    evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, note: str
) -> None:
    monkeypatch.setattr(checkpoint, "save", raising(error))
    outcome = evaluator(Job(0, "0", 0, checkpoint=str(tmp_path / "c")))
    assert outcome.score is not None
    assert outcome.checkpoint is None
    assert (outcome.note or "").startswith(note)


def test_an_outcome_survives_json(evaluator: Evaluator) -> None:
    for outcome in (evaluator(Job(0, "0-1", 0)), Outcome(1, "0", 2, reason="died", lost=True, died=True)):
        assert Outcome.from_json(outcome.as_json()) == outcome
