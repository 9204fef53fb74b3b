"""The course of a run: which job is next, what an answer means, when to stop. The same for a for-loop and for Ray.

Knows: the study of the search, the study of the confirmation, the kept checkpoints, where paused candidates lie. Does
not know: Ray, SQL, training, how progress is shown (a `Watcher` is told).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from layersearch.errors import TrainingError
from layersearch.search.distill import Distill
from layersearch.search.halving import Rungs
from layersearch.search.one_shot import OneShot
from layersearch.search.question import TRIALS
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.training.job import Job, Outcome

FAILURES_BEFORE_STOP = 5  # and more than half of the trials (the circuit breaker of Ax)
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

    def reached(self, outcome: Outcome, *, goes_on: bool) -> None:
        """A candidate was scored at a rung of halving, and goes on at once or is paused."""

    def finished(self, outcome: Outcome) -> None: ...
    def say(self, line: str) -> None:
        """A line that the user must see."""


@dataclass
class Driver:
    """Hands out jobs and takes outcomes until the search holds `trials` complete trials and its front is confirmed.

    `open_confirmation` opens the study of the confirmation with the front and the unchanged model queued, or is None.
    `warm` asks in place of the study where candidates start from what was trained before them. With super-networks
    `trials` may be None: the front of the shared scores and the unchanged model, or as usual where they do not agree.

    With `halving`, the candidates of the search report at rungs: `reached` says who goes on, the others are paused, and
    those that may go on after all come before new candidates. What is paused when nothing else is left to do is stopped
    for good, and counts as one of the `trials`.
    """

    study: Study
    trials: int | None
    watcher: Watcher
    open_confirmation: Callable[[], Study] | None = None
    warm: Distill | OneShot | None = None
    halving: Rungs | None = None
    stopping: bool = False
    _wanted: int = 0
    _running: dict[int, Job] = field(default_factory=dict)
    _failures: list[str] = field(default_factory=list)
    _exhausted: bool = False
    _succeeded: int = 0
    _reused: int = 0
    _disagreed: bool = False

    def __post_init__(self) -> None:
        self._wanted = self._trials_to_do()
        self._drop_states()
        self.watcher.phase(self.study, self._wanted)

    @property
    def searched(self) -> bool:
        """Whether the search holds what it shall, its confirmation apart."""
        return self.study.finished() >= self._wanted and not self._paused()

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
        job = self._promoted()
        if job is None and not self._running and self._begun_all():
            self._stop_paused()
        if self._complete() and not self._running and self.open_confirmation is not None:
            self._confirm()
        job = job or self._new()
        if job is None:
            return None
        if self._keeps:
            job = self._placed(job)
        self._running[job.number] = job
        self.watcher.started(job)
        return job

    def _new(self) -> Job | None:
        """A candidate that has not begun, or a super-network."""
        if self._complete() or self._begun_all():
            return None
        wanted = self._wanted - len(self._paused())
        job = self.warm.ask(self.study, wanted) if self.warm else self.study.ask(wanted)
        self._tell_reused()
        self._exhausted = job is None
        return job

    def _begun_all(self) -> bool:
        """Whether as many candidates have begun as are wanted, or as there are."""
        out = {number for number in self._running if number >= 0}
        begun = out.union(row.number for row in self._paused())
        return self._exhausted or self.study.finished() + len(begun) >= self._wanted

    def _placed(self, job: Job) -> Job:
        """The job with the places of its files and its rungs."""
        if job.checkpoint is None:
            job = replace(job, checkpoint=str(self._checkpoint(job)), front=self._points())
        if self.halving is None:
            return job
        known = next((row.rungs for row in self._paused() if row.number == job.number), {})
        ahead = tuple(share for share in self.halving.of(job.number) if share not in known)
        return replace(job, rungs=ahead, state=str(self.study.folder / "paused" / f"trial-{job.number:05d}"))

    def _tell_reused(self) -> None:
        if self.study.reused > self._reused:
            self.watcher.reused(self.study.reused - self._reused)
            self._reused = self.study.reused

    # -- halving ----------------------------------------------------------------------------------------------------

    def _paused(self) -> list[Row]:
        """The candidates between two rungs: those that wait, and those that went on and have not come to the next."""
        return [row for row in self.study.rows() if row.paused] if self.halving else []

    def _promoted(self) -> Job | None:
        """A paused candidate that may go on now."""
        row = self.halving.promoted(self.study.rows(), self._running) if self.halving else None
        return None if row is None else Job(row.number, row.pattern, row.seed, scored_on=self.study.purpose.scored_on)

    def reached(self, outcome: Outcome) -> bool:
        """Take what a running candidate scored at a rung; whether it goes on at once. Otherwise it is paused."""
        if outcome.number not in self._running or self.halving is None:
            return False
        self.study.reach(outcome)
        goes_on = not self.stopping and self.halving.goes_on(self.study.rows(), outcome.number)
        if not goes_on:
            del self._running[outcome.number]
            self._succeeded += 1
        self.watcher.reached(outcome, goes_on=goes_on)
        return goes_on

    def _stop_paused(self) -> None:
        """Nobody is out and nobody may go on: what is paused stays behind."""
        stopped = self._paused()
        for row in stopped:
            self.study.stop(row)
        if stopped:
            self._drop_states()
            self.watcher.say(f"{len(stopped)} of {self.study.finished()} candidates were stopped early, at their rungs")

    def _drop_states(self) -> None:
        """Remove the states of candidates that nobody will ask to go on."""
        if self._keeps:
            running = {row.number for row in self.study.rows() if row.state == "RUNNING"}
            for number, file in _by_trial(self.study.folder / "paused"):
                if number not in running:
                    file.unlink(missing_ok=True)

    # -- outcomes ---------------------------------------------------------------------------------------------------

    def finish(self, outcome: Outcome) -> None:
        """Take an outcome: tell the study, keep the checkpoints of the front, show it."""
        self._running.pop(outcome.number, None)
        self._exhausted = False
        if outcome.number < 0:
            self._take_super_network(outcome)
            return
        self.study.tell(outcome)
        self._write_trace(outcome)
        if outcome.score is None and (outcome.died or not outcome.lost):
            self._failures.append(outcome.reason or "")
        self._succeeded += outcome.score is not None
        if self._keeps:
            self._drop_beaten_checkpoints()
        if self.halving is not None:
            self._drop_states()
        self.watcher.finished(outcome)
        self._look_at_agreement()

    def _take_super_network(self, outcome: Outcome) -> None:
        assert isinstance(self.warm, OneShot)
        self._write_trace(outcome)
        self.watcher.finished(outcome)
        first = outcome.seed not in self.warm.made
        self.warm.tell(outcome)
        if outcome.shared and self._keeps:
            self.watcher.say(
                f"the super-network {'is trained and scored' if first else 'scored'} {len(outcome.shared)} patterns, "
                f"for the work of {outcome.work:.2f} fine-tunings of the unchanged model"
            )
            self._wanted = self._trials_to_do()
            self.watcher.phase(self.study, self._wanted)

    def _look_at_agreement(self) -> None:
        """Say it, once, when shared scores turn out to rank nothing."""
        if self._disagreed or not self._keeps or not self._disagrees():
            return
        self._disagreed = True
        self.watcher.say(
            "the super-network's scores do not agree with those of the fine-tuned candidates: the search goes on "
            "without them, each candidate from the fine-tuned unchanged model"
        )
        self._wanted = self._trials_to_do()
        self.watcher.phase(self.study, self._wanted)

    def _disagrees(self) -> bool:
        return isinstance(self.warm, OneShot) and self.warm.disagrees(self.study.rows())

    def _trials_to_do(self) -> int:
        if self.trials is not None:
            return self.trials
        if not isinstance(self.warm, OneShot) or self._disagrees():
            return TRIALS
        if not self.warm.known:
            return 2  # the unchanged model, and at least one more
        return 1 + self.warm.candidates()

    def abandon(self, reason: str) -> None:
        """Every job that is out comes to nothing and is queued again."""
        for job in list(self._running.values()):
            self.finish(Outcome(job.number, job.pattern, job.seed, reason=reason, lost=True))

    def _complete(self) -> bool:
        return (self._exhausted or self.study.finished() >= self._wanted) and not self._paused()

    def _confirm(self) -> None:
        assert self.open_confirmation is not None
        self.study = self.open_confirmation()
        self.halving = None  # the confirmation trains in full
        self.open_confirmation = None
        self._exhausted = False
        self._failures.clear()
        self._succeeded = 0
        self._reused = 0
        planned = self.warm.planned if self.warm else ()
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
        for number, folder in _by_trial(self.study.folder / "checkpoints"):
            if number not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _write_trace(self, outcome: Outcome) -> None:
        if outcome.trace:
            folder = self.study.folder / "traces"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"trial-{outcome.number:05d}.txt").write_text(outcome.trace)


def _by_trial(folder: Path) -> Iterator[tuple[int, Path]]:
    """What is called after a trial in `folder`, such as `trial-00012`, and that trial's number."""
    for path in folder.glob("trial-*"):
        number = path.name.removeprefix("trial-").split(".")[0]
        if number.isdigit():
            yield int(number), path


def front_to_confirm(front: list[Row], unchanged: str) -> list[str]:
    """The patterns that are confirmed: the unchanged model and the front."""
    return list(dict.fromkeys([unchanged, *(row.pattern for row in front)]))
