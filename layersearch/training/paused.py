"""A candidate that waits at a rung, on disk: whole or not there.

Knows: one file of tensors and plain values, and what a training and its cost so far put there. Does not know: who
waits, for how long.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from layersearch.durable import whole_file
from layersearch.training.job import Job, Outcome
from layersearch.training.steps import Training

_SPENT = ("work", "seconds", "train_seconds", "score_seconds")  # what an outcome adds up from rung to rung


def save(values: Mapping[str, Any], file: Path) -> None:
    """Write `values` (tensors, numbers, text, and lists and dictionaries of them) so that a crash leaves a whole file.

    What stood there before stays until then. Raises OSError if the disk takes no more.
    """
    import torch

    try:
        with whole_file(file) as stream:
            torch.save(dict(values), stream)
    except RuntimeError as error:  # torch's word for a write that failed
        raise OSError(str(error).splitlines()[0]) from error


def load(file: Path) -> dict[str, Any] | None:
    """What `save` wrote, on the processor; None if there is no file, or a damaged one: the work is done again then."""
    import torch

    try:
        values: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return values


def resumed(job: Job, training: Training, first: float) -> Outcome:
    """Bring `training` to where the job's state was put down, if that is not behind `first`; what it had cost there."""
    state = None if job.state is None else load(Path(job.state))
    begun = Outcome(job.number, job.pattern, job.seed)
    if state is None or (state["pattern"], state["seed"]) != (job.pattern, job.seed) or state["rung"] > first:
        return begun
    training.restore(state)
    return replace(begun, **{name: state[name] for name in _SPENT})


def put_down(job: Job, training: Training, outcome: Outcome) -> Outcome:
    """Write the candidate's state, so that it can go on from its rung in another process."""
    if job.state is None:
        return outcome
    about = {"pattern": job.pattern, "seed": job.seed, "rung": outcome.rung}
    try:
        save({**training.state(), **about, **{name: getattr(outcome, name) for name in _SPENT}}, Path(job.state))
    except OSError as error:  # a full disk must not cost a score that is paid for
        return replace(outcome, note=f"state not kept, it would be trained again: {error}".splitlines()[0])
    return outcome
