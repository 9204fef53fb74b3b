"""The course of a run: which job is next, what an answer means, when to stop. The same for a for-loop and for Ray.

Knows: the study of the search, the study of the confirmation, the kept checkpoints. Does not know: Ray, SQL, training,
how progress is shown (a `Watcher` is told).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from layersearch.errors import TrainingError
from layersearch.search.one_shot import OneShot
from layersearch.search.quality import plateau
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.training.evaluator import Job, Outcome

FAILURES_BEFORE_STOP = 5  # and more than half of the trials (the circuit breaker of Ax)
MOST_CANDIDATES = 12  # fine-tuned after a super-network unless the user says how many
SAME_FAILURES_AT_START = 3  # the first so many trials failed alike: the set-up is wrong, not the candidates


class Watcher(Protocol):
    """Somebody who shows what happens; every call returns at once."""

    def phase(self, study: Study, wanted: int) -> None:
        """`study` is worked on until it holds `wanted` complete trials."""

    def started(self, job: Job) -> None: ...
    def progressed(self, number: int, share: float) -> None:
        """Trial `number` has done `share` (0 to 1) of its training; only told where it runs in this process."""

    def reused(self, count: int) -> None:
        """`count` trials were settled at once, their evaluations known from other studies of the database."""

    def finished(self, outcome: Outcome) -> None: ...
    def say(self, line: str) -> None:
        """A line that the user must see."""


@dataclass
class Driver:
    """Hands out jobs and takes outcomes until the search holds `trials` complete trials and its front is confirmed.

    `open_confirmation` opens the study of the confirmation with the front and the unchanged model queued, or is None.
    With `one_shot`, super-networks come first and say which candidates follow; `trials` may then be None: as many as
    the front of the shared scores holds, and the unchanged model.

    After `seconds`, or with `until_plateau` as soon as the front stands still, the search begins no more candidates:
    what runs is finished, and the confirmation follows.
    """

    study: Study
    trials: int | None
    watcher: Watcher
    open_confirmation: Callable[[], Study] | None = None
    one_shot: OneShot | None = None
    seconds: float | None = None
    until_plateau: bool = False
    stopping: bool = False
    _began: float = field(default_factory=time.monotonic)
    _over: str = ""  # why nothing more is begun, before the wanted number is reached
    _ended: str = ""  # why the search ended, once its confirmation has begun
    _wanted: int = 0
    _running: dict[int, Job] = field(default_factory=dict)
    _failures: list[str] = field(default_factory=list)
    _exhausted: bool = False
    _succeeded: int = 0
    _reused: int = 0

    def __post_init__(self) -> None:
        self._wanted = self._trials_to_do()
        self.watcher.phase(self.study, self._wanted)
        self._look_for_standstill()

    @property
    def searched(self) -> bool:
        """Whether the search holds what it shall, its confirmation apart."""
        return bool(self._over) or self.study.finished() >= self._wanted

    @property
    def ended(self) -> str:
        """Why the search begins no more candidates, in words; empty as long as it does."""
        if self._ended or self._over:
            return self._ended or self._over
        finished = self.study.finished()
        if finished >= self._wanted:
            return f"{finished} trials are finished"
        return f"no pattern is left to try after {finished} finished trials" if self._exhausted else ""

    @property
    def done(self) -> bool:
        """Whether nothing is left to hand out and nothing is out."""
        if self._running:
            return False
        return self.stopping or (self._complete() and self.open_confirmation is None)

    def next_job(self) -> Job | None:
        """The next job, or None while there is none: all is out or done (`done` tells which).

        Raises TrainingError when so much fails that going on is pointless.
        """
        if self.stopping:
            return None
        self._break_circuit()
        if self._keeps and self.seconds is not None and time.monotonic() - self._began >= self.seconds:
            self._over = self._over or f"{self.seconds:g} s are over"
        if self._complete() and not self._running and self.open_confirmation is not None:
            self._confirm()
        if self._complete() or self.study.finished() + sum(number >= 0 for number in self._running) >= self._wanted:
            return None
        job = self.one_shot.ask(self.study, self._wanted) if self.one_shot else self.study.ask(self._wanted)
        self._tell_reused()
        if job is None:
            self._exhausted = True
            return None
        if job.checkpoint is None and self._keeps:
            job = replace(job, checkpoint=str(self._checkpoint(job)), front=self._points())
        self._running[job.number] = job
        self.watcher.started(job)
        return job

    def _tell_reused(self) -> None:
        if self.study.reused > self._reused:
            self.watcher.reused(self.study.reused - self._reused)
            self._reused = self.study.reused

    def finish(self, outcome: Outcome) -> None:
        """Take an outcome: tell the study, keep the checkpoints of the front, show it."""
        self._running.pop(outcome.number, None)
        self._exhausted = False
        if self.one_shot is not None and outcome.number < 0:
            self._take_super_network(outcome, self.one_shot)
            return
        self.study.tell(outcome)
        self._write_trace(outcome)
        if outcome.score is None and (outcome.died or not outcome.lost):
            self._failures.append(outcome.reason or "")
        self._succeeded += outcome.score is not None
        if self._keeps:
            self._drop_beaten_checkpoints()
            self._look_for_standstill()
        self.watcher.finished(outcome)

    def _look_for_standstill(self) -> None:
        if self.until_plateau and not self._over:
            layers = int(self.study.facts["num_layers"])
            self._over = str(plateau(self.study.rows(), self.study.purpose.direction, layers) or "")

    def _take_super_network(self, outcome: Outcome, one_shot: OneShot) -> None:
        self._write_trace(outcome)
        self.watcher.finished(outcome)
        one_shot.tell(outcome)
        if outcome.shared and self._keeps:
            self.watcher.say(
                f"the super-network is trained and scored {len(outcome.shared)} patterns, for the work of "
                f"{outcome.work:.2f} fine-tunings of the unchanged model"
            )
            self._wanted = self._trials_to_do()
            self.watcher.phase(self.study, self._wanted)

    def _trials_to_do(self) -> int:
        if self.trials is not None:
            return self.trials
        assert self.one_shot is not None
        if not self.one_shot.known:
            return 2  # the unchanged model, and at least one more
        return 1 + min(len(self.one_shot.front()), MOST_CANDIDATES)

    def abandon(self, reason: str) -> None:
        """Every job that is out comes to nothing and is queued again."""
        for job in list(self._running.values()):
            self.finish(Outcome(job.number, job.pattern, job.seed, reason=reason, lost=True))

    def _complete(self) -> bool:
        return self._exhausted or self.searched

    def _confirm(self) -> None:
        assert self.open_confirmation is not None
        self._ended, self._over = self.ended, ""
        self.study = self.open_confirmation()
        self.open_confirmation = None
        self._exhausted = False
        self._failures.clear()
        self._succeeded = 0
        self._reused = 0
        planned = self.one_shot.planned if self.one_shot else ()
        self._wanted = len({*planned, *((row.pattern, row.seed) for row in self.study.rows())})
        self.watcher.phase(self.study, self._wanted)

    def _break_circuit(self) -> None:
        failed = len(self._failures)
        alike = failed >= SAME_FAILURES_AT_START and not self._succeeded and len(set(self._failures)) == 1
        if alike or (failed >= FAILURES_BEFORE_STOP and failed > self._succeeded):
            raise TrainingError(
                f"{failed} of {failed + self._succeeded} trials failed, the last with: {self._failures[-1]}. "
                "Mend the cause and run the same command again; what is finished is kept"
            )

    # -- checkpoints ------------------------------------------------------------------------------------------------

    @property
    def _keeps(self) -> bool:
        return self.study.purpose.scored_on == "search"

    def _checkpoint(self, job: Job) -> Path:
        return self.study.folder / "checkpoints" / f"trial-{job.number:05d}"

    def _points(self) -> tuple[tuple[float, int], ...]:
        sign = 1.0 if self.study.purpose.direction == "maximize" else -1.0
        front = self.study.front()
        return tuple((sign * r.score, r.parameters) for r in front if r.score is not None and r.parameters is not None)

    def _drop_beaten_checkpoints(self) -> None:
        running = {row.number for row in self.study.rows() if row.state == "RUNNING"}
        kept = {row.number for row in self.study.front()} | running
        for folder in (self.study.folder / "checkpoints").glob("trial-*"):
            number = folder.name.removeprefix("trial-").split(".")[0]
            if number.isdigit() and int(number) not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _write_trace(self, outcome: Outcome) -> None:
        if outcome.trace:
            folder = self.study.folder / "traces"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"trial-{outcome.number:05d}.txt").write_text(outcome.trace)


def front_to_confirm(front: list[Row], unchanged: str) -> list[str]:
    """The patterns that are confirmed: the unchanged model and the front."""
    return list(dict.fromkeys([unchanged, *(row.pattern for row in front)]))
