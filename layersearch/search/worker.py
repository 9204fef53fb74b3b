"""The warm Ray Trainable: base weights and encoded data are taken from Ray's object store once a process.

Knows: Ray, the evaluator, a watchdog. Does not know: the study, Optuna, which pattern is next.
"""

from __future__ import annotations

import faulthandler
import time
import traceback
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.tune

from layersearch.models.base import from_arrays
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Job, Outcome

REARM_SECONDS = 1.0  # the watchdog is set again at most this often


@dataclass(frozen=True)
class Shared:
    """What every worker gets: a reference into the object store (in a tuple, so that Ray hands it over unresolved) to
    the arguments of `Evaluator` with the base model in pieces, and how to run.
    """

    parts: tuple[Any]
    threads: int
    stalls: str
    stall_seconds: float


def _evaluator(parts: dict[str, Any], threads: int) -> Evaluator:
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return Evaluator(**{**parts, "base": from_arrays(parts["base"])})


class Worker(ray.tune.Trainable):
    """One process that evaluates many candidates, one at a time (`reuse_actors`)."""

    def setup(self, config: dict[str, Any], shared: Shared) -> None:  # type: ignore[override]
        """Build the evaluator from shared, read-only arrays; what goes wrong is kept and told as a job's outcome."""
        self._shared = shared
        self._course: Generator[Outcome, None, None] | None = None
        self._evaluator: Evaluator | None = None
        self._broken = ""
        self.reset_config(config)
        try:
            self._evaluator = _evaluator(ray.get(shared.parts[0]), shared.threads)
        except Exception as error:  # the boundary: Tune would only say that an actor died
            self._broken = f"the worker could not start: {type(error).__name__}: {error}".splitlines()[0]
            self._trace = traceback.format_exc()

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Take the next job; the process, its weights and its data stay."""
        job = dict(config["job"])
        self._job = Job(**{**job, "front": tuple(tuple(point) for point in job["front"])})
        self._leave()
        return True

    def step(self) -> dict[str, Any]:
        """Evaluate the job to its next rung, or to its end; a failure is part of the outcome, never an exception."""
        if self._evaluator is None:
            job = self._job
            outcome = Outcome(job.number, job.pattern, job.seed, reason=self._broken, lost=True, died=True)
            return {"outcome": replace(outcome, trace=self._trace).as_json(), "done": True}
        stalls = Path(self._shared.stalls)
        with Watchdog(stalls / f"{self._job.number}.txt", self._shared.stall_seconds) as watchdog:
            self._feed = watchdog.feed
            self._course = self._course or self._evaluator.course(self._job, lambda share: self._feed(share))
            outcome = next(self._course)
        if outcome.rung is None:
            self._leave()
        return {"outcome": outcome.as_json(), "done": outcome.rung is None}

    def _leave(self) -> None:
        """Let go of a candidate that is finished, or that does not go on from its rung."""
        if self._course is not None:
            self._course.close()
        self._course = None


class Watchdog:
    """Ends the process when it is not fed for `seconds`, leaving the stacks of all its threads in `file`.

    `faulthandler` does it from a C thread, so that it works while Python hangs in C code.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._path = file
        self._seconds = seconds
        self._fed = 0.0

    def __enter__(self) -> Watchdog:
        self._file = self._path.open("w")
        self.feed(0.0)
        return self

    def feed(self, _share: float) -> None:
        """Something moved: start counting anew."""
        now = time.monotonic()
        if now - self._fed >= min(REARM_SECONDS, self._seconds / 4):
            self._fed = now
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._file)

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        self._path.unlink(missing_ok=True)
