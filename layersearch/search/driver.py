"""The course of a run: which job is next, what an answer means, when to stop. The same for a for-loop and for Ray.

Knows: the study of the search, the study of the confirmation, where paused candidates lie. Does not know: Ray, SQL,
training, which weights are kept, how progress is shown (a `Watcher` is told).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from layersearch.counts import count
from layersearch.errors import TrainingError
from layersearch.search.distill import Distill, to_hold
from layersearch.search.files import write_trace
from layersearch.search.halving import Rungs
from layersearch.search.keeping import Keeping
from layersearch.search.one_shot import OneShot
from layersearch.search.quality import plateau
from layersearch.search.question import TRIALS
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.search.watcher import Watcher
from layersearch.training.job import Job, Outcome

FAILURES_BEFORE_STOP = 5  # and more than half of the trials (the circuit breaker of Ax)
LOOK_SECONDS = 10.0  # between two looks at whether those live for whose scores this driver waits
SAME_FAILURES_AT_START = 3  # the first so many trials failed alike: the set-up is wrong, not the candidates


@dataclass
class Driver:
    """Hands out jobs and takes outcomes until the search holds `trials` complete trials and its front is confirmed.

    Each of `then` opens a study that follows, with what it is to train queued: further seeds near the front, the
    confirmation.
    `warm` asks in place of the study where candidates start from what was trained before them. With super-networks
    `trials` may be None: the front of the shared scores and the unchanged model, or as usual where they do not agree.

    With `halving`, the candidates of the search report at rungs: `reached` says who goes on, the others are paused, and
    those that may go on after all come before new candidates. What is paused when nothing else is left to do is stopped
    for good, and counts as one of the `trials`.

    After `seconds`, or with `until_plateau` as soon as the front stands still, the search begins no more candidates:
    what runs is finished, and the confirmation follows.
    """

    study: Study
    trials: int | None
    watcher: Watcher
    then: list[Callable[[], Study]] = field(default_factory=list)
    warm: Distill | OneShot | None = None
    halving: Rungs | None = None
    seconds: float | None = None
    until_plateau: bool = False
    keeping: Keeping = field(default_factory=Keeping)
    stopping: bool = False
    _began: float = field(default_factory=time.monotonic)
    _over: str = ""  # why nothing more is begun, before the wanted number is reached
    _ended: str = ""  # why the search ended, once its confirmation has begun
    _wanted: int = 0
    _running: dict[int, Job] = field(default_factory=dict)
    _failures: list[str] = field(default_factory=list)
    _exhausted: bool = False
    _looked: float = field(default_factory=time.monotonic)
    _succeeded: int = 0
    _reused: int = 0

    def __post_init__(self) -> None:
        self._wanted = self._trials_to_do()
        if self._keeps:
            self.keeping.begin(self.study)
        self.watcher.phase(self.study, self._wanted)
        self._look_for_standstill()

    @property
    def searched(self) -> bool:
        """Whether the search holds what it shall, its confirmation apart."""
        return (bool(self._over) or self.study.finished() >= self._wanted) and not self._paused()

    @property
    def ended(self) -> str:
        """Why the search begins no more candidates, in words; empty as long as it does."""
        if self._ended or self._over:
            return self._ended or self._over
        finished = self.study.finished()
        if finished >= self._wanted:
            return f"{count(finished, 'trial')} {'is' if finished == 1 else 'are'} finished"
        return f"no pattern is left to try after {count(finished, 'finished trial')}" if self._exhausted else ""

    @property
    def done(self) -> bool:
        """Whether nothing is left to hand out and nothing is out."""
        if self._running:
            return False
        return self.stopping or (self._complete() and not self.then)

    def next_job(self) -> Job | None:
        """The next job, or None while there is none: all is out or done (`done` tells which).

        Raises TrainingError when so much fails that going on is pointless.
        """
        if self.stopping:
            return None
        self._break_circuit()
        if self._keeps and self.seconds is not None and time.monotonic() - self._began >= self.seconds:
            self._over = self._over or f"{self.seconds:g} s are over"
        job = self._promoted()
        if job is None and not self._running and self._begun_all():
            self._stop_paused()
        while self._complete() and not self._running and self.then:
            self._follow()
        job = job or self._new()
        if job is None:
            return None
        if self._keeps:
            job = self._placed(job)
        self._running[job.number] = job
        if job.number < 0 and job.start is not None:
            self.watcher.say(f"the super-network of seed {job.seed} is trained now, the longest job of the search")
        self.watcher.started(job)
        return job

    def _new(self) -> Job | None:
        """A candidate that has not begun, or a super-network."""
        if self._complete() or self._begun_all():
            return None
        wanted = self._wanted - len(self._paused())
        job = self.warm.ask(self.study, wanted) if self.warm else self.study.ask(wanted)
        self._tell_reused()
        waits = job is None and not self._running and self.study.waits()
        self._exhausted = job is None and not waits
        if waits:
            self._look_after_others()
        return job

    def _look_after_others(self) -> None:
        """Another driver's scores come first: queue again what it left, if it has died."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self.study.heal()

    def _begun_all(self) -> bool:
        """Whether as many candidates have begun as are wanted, or as there are."""
        out = {number for number in self._running if number >= 0}
        begun = out.union(row.number for row in self._paused())
        return bool(self._over) or self._exhausted or self.study.finished() + len(begun) >= self._wanted

    def _placed(self, job: Job) -> Job:
        """The job with the places of its files and its rungs."""
        job = self.keeping.placed(self.study, job, self._running.values())
        if self.halving is None:
            return job
        known = next((row.rungs for row in self._paused() if row.number == job.number), {})
        ahead = tuple(share for share in self.halving.of(job.number) if share not in known)
        return replace(job, rungs=ahead, state=self.keeping.state_for(self.study, job, self._running.values()))

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
        if self.halving is None:
            return None
        row = self.halving.promoted(self.study.rows(), self._running)
        if row is None or (self._over and row.pattern != self.halving.unchanged):
            return None
        return self.study.job_of(row.number, row.pattern, row.seed)

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
            self._drop_files()
            self.watcher.say(
                f"{len(stopped)} of {count(self.study.finished(), 'candidate')} were stopped early, at their rungs"
            )

    def _drop_files(self) -> None:
        if self._keeps:
            self.keeping.tidy(self.study, self._running.values())

    # -- outcomes ---------------------------------------------------------------------------------------------------

    def finish(self, outcome: Outcome) -> None:
        """Take an outcome: tell the study, keep the checkpoints of the front, show it."""
        self._running.pop(outcome.number, None)
        self._exhausted = False
        if outcome.number < 0:
            self._take_untold(outcome)
            return
        self.study.tell(outcome)
        if outcome.trace:
            write_trace(self.study.folder, outcome.number, outcome.trace)
        if outcome.score is None and (outcome.died or not outcome.lost):
            self._failures.append(outcome.reason or "")
        self._succeeded += outcome.score is not None
        self._drop_files()
        if self._keeps:
            self._look_for_standstill()
        self.watcher.finished(outcome)
        self._look_at_agreement()

    def _look_for_standstill(self) -> None:
        if self.until_plateau and not self._over:
            layers = int(self.study.facts["num_layers"])
            purpose = self.study.purpose
            own = purpose.costs != ("parameters",)
            self._over = str(plateau(self.study.rows(), purpose.direction, layers, own_costs=own) or "")

    def _take_untold(self, outcome: Outcome) -> None:
        """Take what is no trial: a super-network, or an unchanged model that was made again."""
        assert self.warm is not None
        if outcome.trace:
            write_trace(self.study.folder, outcome.number, outcome.trace)
        self.watcher.finished(outcome)
        first = isinstance(self.warm, OneShot) and outcome.seed not in self.warm.made
        self.warm.tell(outcome)
        if outcome.shared and self._keeps:
            self.watcher.say(
                f"the super-network {'is trained and scored' if first else 'scored'} "
                f"{count(len(outcome.shared), 'pattern')}, "
                f"for the work of {outcome.work:.2f} fine-tunings of the unchanged model"
            )
            self._wanted = self._trials_to_do()
            self.watcher.phase(self.study, self._wanted)

    def _look_at_agreement(self) -> None:
        """Say it, once, when shared scores turn out to rank nothing."""
        warm = self.warm
        if not (self._keeps and isinstance(warm, OneShot)) or warm.fallen_back or not warm.disagrees(self.study.rows()):
            return
        warm.fallen_back = True
        self.study.note(fallen_back=True)
        self.watcher.say(
            "the super-network's scores do not agree with those of the fine-tuned candidates: the search goes on "
            "without them, each candidate from the fine-tuned unchanged model"
        )
        self._wanted = self._trials_to_do()
        self.watcher.phase(self.study, self._wanted)

    def _trials_to_do(self) -> int:
        if self.trials is not None:
            return self.trials
        if not isinstance(self.warm, OneShot) or self.warm.fallen_back:
            return TRIALS
        if not self.warm.known:
            return 2  # the unchanged model, and at least one more
        return 1 + self.warm.candidates()

    def abandon(self, reason: str) -> None:
        """Every job that is out comes to nothing and is queued again."""
        for job in list(self._running.values()):
            self.finish(Outcome(job.number, job.pattern, job.seed, reason=reason, lost=True))

    def _complete(self) -> bool:
        return self.searched or (self._exhausted and not self._paused())

    def _follow(self) -> None:
        """Go on with the study that comes next."""
        self._ended, self._over = self.ended, ""
        if self._keeps:
            self.keeping.make_room(self.study, self.keeping.to_confirm)
        self.study = self.then.pop(0)()
        self.halving = None  # what follows trains in full
        self._exhausted = False
        self._failures.clear()
        self._succeeded = 0
        self._reused = 0
        self._wanted = to_hold(self.study, self.warm.planned if self.warm else ())
        self.watcher.phase(self.study, self._wanted)

    def _break_circuit(self) -> None:
        failed = len(self._failures)
        alike = failed >= SAME_FAILURES_AT_START and not self._succeeded and len(set(self._failures)) == 1
        if alike or (failed >= FAILURES_BEFORE_STOP and failed > self._succeeded):
            raise TrainingError(
                f"{failed} of {count(failed + self._succeeded, 'trial')} failed, the last with: {self._failures[-1]}. "
                "Mend the cause and run the same command again; what is finished is kept"
            )

    @property
    def _keeps(self) -> bool:
        """Whether this is the search, whose weights somebody may export, and not what follows it."""
        return self.study.proposes
