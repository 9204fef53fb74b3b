"""The Ray Tune Searcher and Stopper over the driver: where Tune's trials and the study's meet.

Knows: Tune's trial life cycle. Does not know: SQL, training, how progress is shown. Tune keeps no state of ours:
nothing here is pickled, and a run that ends is continued from the study alone (FACTS.md 3.1 and 3.2 say why neither
`OptunaSearch` nor `Tuner.restore` is used).
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray.tune import Stopper
from ray.tune.search import Searcher

from layersearch.errors import LayersearchError
from layersearch.search.driver import Driver
from layersearch.training.job import Job, Outcome

LOOK_SECONDS = 10.0  # between two looks at whether Ray's node lives: Tune itself would wait for ever (FACTS.md B9)
LEAVE_SECONDS = 20.0  # after which a Ray that does not end is left to itself


class LayerSearcher(Searcher):
    """Asks the driver for jobs and tells it outcomes. `error` holds what ended the run early, if anything did.

    Tune calls these methods from its event loop; an exception there would make it train a finished trial again, so
    errors are kept and end the run instead.
    """

    def __init__(self, driver: Driver, workers: int, stalls: Path, stall_seconds: float) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.ended = threading.Event()
        self._driver = driver
        self._workers = workers
        self._stalls = stalls
        self._stall_seconds = stall_seconds
        self._jobs: dict[str, Job] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next job as Tune's config, None while there is none, FINISHED at the end."""
        if self.error is not None or self._driver.done:
            return str(Searcher.FINISHED)
        if len(self._jobs) >= self._workers:
            return None
        try:
            job = self._driver.next_job()
        except Exception as error:  # the boundary: Tune would go on without the trial
            self.fail(error)
            return None
        if job is None:
            return str(Searcher.FINISHED) if self._driver.done else None
        self._jobs[trial_id] = job
        return {"job": asdict(job)}

    def goes_on(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a candidate that reports `result` at a rung goes on; otherwise its Ray trial is over, not it."""
        try:
            stays = self._driver.reached(replace(Outcome.from_json(result["outcome"]), ray_trial=trial_id))
        except Exception as error:  # the boundary: Tune would log it where nobody looks
            self.fail(error)
            return False
        if not stays:
            self._jobs.pop(trial_id, None)
        return stays

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the driver what became of the job."""
        job = self._jobs.pop(trial_id, None)
        if job is None:
            return
        try:
            self._driver.finish(replace(self._outcome(job, result, error), ray_trial=trial_id))
        except Exception as problem:  # the boundary: Tune would log it where nobody looks
            self.fail(problem)

    def fail(self, error: Exception) -> None:
        """End the run with `error`, the first of them."""
        self.error = self.error or error
        self._driver.stopping = True

    @property
    def stopping(self) -> bool:
        """Whether the run is to end before its work is done."""
        return self._driver.stopping

    def settle(self) -> None:
        """Queue again what is out."""
        self._jobs.clear()
        self._driver.abandon("stopped before it was finished")

    def _outcome(self, job: Job, result: dict[str, Any] | None, error: bool) -> Outcome:
        told = Outcome.from_json(result["outcome"]) if not error and result and "outcome" in result else None
        if told is not None and told.rung is None:
            return told
        lost = Outcome(job.number, job.pattern, job.seed, reason="stopped before it was finished", lost=True)
        if self.stopping:
            return lost
        stall = self._stalls / f"{job.number}.txt"
        if stall.exists() and stall.stat().st_size:
            reason = f"the worker made no progress for {self._stall_seconds:g} s and was ended"
            return replace(lost, reason=reason, died=True, trace=stall.read_text())
        return replace(lost, reason="the worker process died (killed, out of memory, or crashed)", died=True)

    def leave_late(self) -> None:
        """End the process if Tune does not end in time (Ray's daemons may have got the signal too); all is settled."""
        if not self.ended.wait(LEAVE_SECONDS):
            self._driver.watcher.say(f"error: {self.error}" if self.error else "stopped; Ray did not end and is left")
            os._exit(1 if self.error else 130)

    def set_max_concurrency(self, max_concurrent: int) -> bool:  # noqa: ARG002
        """This searcher limits itself."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Tune saves nothing: the study is the only state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing was saved."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into its folder; the study and its URL stay out of it."""
        return {}


class StopWhenAsked(Stopper):
    """Ends the Tune run when the driver stops (Ctrl-C, SIGTERM, an error) or when Ray itself is gone.

    Tune asks it at every turn of its loop, about ten times a second.
    """

    def __init__(self, searcher: LayerSearcher) -> None:
        self._searcher = searcher
        self._looked = time.monotonic()
        self._leaving = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """No single trial is stopped here."""
        return False

    def stop_all(self) -> bool:
        """Whether all of Tune stops; settles the study at once, because Tune may take its time or never end."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            if not any(node["Alive"] for node in ray.nodes()):  # type: ignore[no-untyped-call]
                self._searcher.fail(LayersearchError("Ray's node has died; run the same command again to go on"))
        if self._searcher.stopping and not self._leaving:
            self._leaving = True
            self._searcher.settle()
            threading.Thread(target=self._searcher.leave_late, daemon=True).start()
        return self._searcher.stopping

    def __getstate__(self) -> dict[str, Any]:
        """Nothing of the study goes into Tune's pickles."""
        return {}
