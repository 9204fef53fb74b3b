"""What the papers' experiments share: patterns trained by a recipe, over seeds, scored on the validation set.

Knows: a list of what is asked, one work folder with one database in which nothing is trained twice, whichever paper
asks; nor is what the kept tables tell. Does not know: which patterns a paper needs, how they are told, verdicts.

Candidates are trained on the part of the training data that a search would train on; the part held out for the search
is left alone. The same call goes on after a kill. Several processes may go through one list, each under a number of its
own: what one has done or is at, the others leave out.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import filelock

from layersearch.pattern import Pattern
from layersearch.report.console import Progress
from layersearch.search.question import How
from layersearch.search.run import make_evaluator
from layersearch.search.studies import opened
from layersearch.search.study import Study
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Job, Outcome
from results.asked import PLAIN, Asked, Setting, Way
from results.known import ENDING, ON_THE_WAY, known, question_of


class Desk:
    """One study with what its jobs need, opened when the first of them is due."""

    def __init__(self, setting: Setting, task: str, way: Way, stack: ExitStack) -> None:
        self.setting, self.task, self.way = setting, task, way
        self.prepared = setting.prepared(task, way)
        self.question = question_of(self.prepared.purpose)
        self.unchanged = str(Pattern.full(self.prepared.num_layers))
        self._like = f"{setting.name(task, way)}-{self.question}-"  # how the names of all processes' studies begin
        name = f"{self._like}{setting.process}"
        self.how = How(name, setting.storage, setting.work / "files", workers=0, device=setting.device)
        with setting.lock("database"):  # whoever comes first makes it
            studies = stack.enter_context(opened(self.prepared, self.how, Progress()))
            self.study: Study = studies.sibling(ENDING, "validation")
            self.study.note(**self.prepared.facts)
            self.study.heal()
        self._waiting: dict[tuple[str, int], Job] = {}  # jobs out of the study that are not claimed

    @cached_property
    def evaluator(self) -> Evaluator:
        """The base model and the tokenised data."""
        return make_evaluator(self.prepared, self.how)

    @contextmanager
    def claimed(self, one: Asked, *, wait: bool = False) -> Iterator[bool]:
        """Whether `one` is this process's as long as the body runs, and nobody else's; with `wait` it will be."""
        name = hashlib.sha256(f"{self._like}{one.pattern}-{one.seed}".encode()).hexdigest()[:16]
        lock = self.setting.lock(name)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def do(self, one: Asked, start_of: Callable[[int], Path | None], kept: Mapping[tuple[str, int], Path]) -> None:
        """Train and score one candidate, which is claimed, unless that is known.

        `kept` says whose weights stay, `start_of` a seed where its candidates start.
        """
        key = (one.pattern, one.seed)
        place = kept.get(key)
        while key not in self._known() and (job := self._job_of(one)) is not None:  # again if it was lost
            self._train(self._placed(job, place, start_of(one.seed)))
        if place is not None and not whole(place) and self._known().get(key):
            self.evaluator(self._placed(Job(-1, one.pattern, one.seed, "validation"), place, start_of(one.seed)))

    def _job_of(self, one: Asked) -> Job | None:
        """The study's job for a candidate.

        What a kill left comes out of the study before it. That waits until it is claimed in its turn: meanwhile another
        process may be at it.
        """
        key = (one.pattern, one.seed)
        if key not in self._waiting:
            self.study.enqueue(one.pattern, one.seed)
            while (job := self.study.ask()) is not None:
                self._waiting[job.pattern, job.seed] = job
        return self._waiting.pop(key, None)

    def _known(self) -> Mapping[tuple[str, int], bool]:
        """Whether there is a score, of all that the tables and all processes know of this task and way."""
        lines = known(self.setting, self.task, self.way, self.question)
        return {key: line["score"] not in (None, "") for key, line in lines.items()}

    def _train(self, job: Job) -> None:
        begun = time.perf_counter()
        outcome = self._outcome(job)
        self.study.tell(outcome)
        told = f"{outcome.score:.4f}" if outcome.score is not None else f"failed: {outcome.reason}"
        where = f"{self.task} {self.way.name} seed {job.seed} {job.pattern}"
        print(time.strftime("%H:%M:%S"), where, told, f"{time.perf_counter() - begun:.0f} s", flush=True)

    def _outcome(self, job: Job) -> Outcome:
        """What becomes of a job, with what it scored on its way among the metrics."""
        if not self.way.rungs:
            return self.evaluator(job)
        *before, last = self.evaluator.course(replace(job, rungs=(*self.way.rungs, 1.0)))
        scored = {f"{ON_THE_WAY}{one.rung:g}": one.score for one in before if one.score is not None}
        return replace(last, metrics={**last.metrics, **scored})

    def _placed(self, job: Job, place: Path | None, start: Path | None) -> Job:
        return replace(
            job, checkpoint=None if place is None else str(place), start=None if start is None else str(start)
        )


def whole(folder: Path) -> bool:
    """Whether weights lie there."""
    from layersearch.models.checkpoint import is_complete

    return is_complete(folder)


def train(setting: Setting, asked: Sequence[Asked], worth: Callable[[Asked], bool] = lambda _: True) -> None:
    """Train what is asked, in its order; those that the work folder or a kept table knows are left out.

    `worth` is asked anew before each whether it is to be trained.
    """
    setting.work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        desks: dict[tuple[str, Way], Desk] = {}

        def desk_of(task: str, way: Way) -> Desk:
            if (task, way) not in desks:
                desks[task, way] = Desk(setting, task, way, stack)
            return desks[task, way]

        def unchanged(task: str, seed: int) -> Path:
            """Where the fine-tuned unchanged model lies, made now if it is not there."""
            desk = desk_of(task, PLAIN)
            whom = Asked(task, desk.unchanged, seed, keep=True)
            place = setting.weights(whom, desk.question)
            if not whole(place):
                with desk.claimed(whom, wait=True):
                    desk.do(whom, lambda _: None, {(whom.pattern, whom.seed): place})
            if not whole(place):
                raise SystemExit(
                    f"the unchanged model of {task}, seed {seed}, left no weights in {place}: see its trial"
                )
            return place

        for one in filter(worth, asked):
            desk = desk_of(one.task, one.way)
            kept = {(a.pattern, a.seed): setting.weights(a, desk.question) for a in _like(one, asked) if a.keep}
            start_of = partial(unchanged, one.task) if one.way.after else lambda _: None
            with desk.claimed(one) as mine:
                if mine:
                    desk.do(one, start_of, kept)


def _like(one: Asked, asked: Iterable[Asked]) -> Iterable[Asked]:
    return (other for other in asked if (other.task, other.way) == (one.task, one.way))
