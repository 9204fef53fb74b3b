"""The warm Ray Trainable: base weights and encoded data are taken from Ray's object store once a process.

Knows: Ray, the evaluator, a watchdog. Does not know: the study, Optuna, which pattern is next.
"""

from __future__ import annotations

import faulthandler
import time
from pathlib import Path
from typing import Any

import ray.tune

from layersearch.models.base import from_arrays
from layersearch.training.evaluator import Evaluator, Job

REARM_SECONDS = 1.0  # the watchdog is set again at most this often


class Worker(ray.tune.Trainable):  # type: ignore[misc]
    """One process that evaluates many candidates, one at a time (`reuse_actors`)."""

    def setup(self, config: dict[str, Any], parts: dict[str, Any]) -> None:  # type: ignore[override]
        """Build the evaluator from shared, read-only arrays; `parts` is what `run.py` put into the object store."""
        import torch
        import transformers

        torch.set_num_threads(parts["threads"])
        transformers.logging.set_verbosity_error()
        self._evaluator = Evaluator(
            base=from_arrays(parts["base"]),
            task=parts["task"],
            recipe=parts["recipe"],
            data=parts["data"],
            device=parts["device"],
        )
        self._stall_seconds: float = parts["stall_seconds"]
        self._stalls = Path(parts["stalls"])
        self.reset_config(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Take the next job; the process, its weights and its data stay."""
        job = dict(config["job"])
        self._job = Job(**{**job, "front": tuple(tuple(point) for point in job["front"])})
        return True

    def step(self) -> dict[str, Any]:
        """Evaluate the job to its end; a failure is part of the outcome, never an exception."""
        with Watchdog(self._stalls / f"{self._job.number}.txt", self._stall_seconds) as watchdog:
            outcome = self._evaluator(self._job, watchdog.feed)
        return {"outcome": outcome.as_dict(), "done": True}


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
