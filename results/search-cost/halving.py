"""What successive halving pays for, replayed: the rungs from a table of their scores, the ends from the measured one.

Knows: tables, the driver of a search, steps. Does not know: how tables were made, curves, what is reported. The rungs
were trained with another seed than the ends, on 85 % of the training set, and scored on the rest, which a search sees.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path

from layersearch.pattern import Pattern
from layersearch.search.question import How
from layersearch.search.replay import replay_of
from layersearch.search.run import run_replay
from layersearch.search.study import Study
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import Halving

from .courses import LAYERS, Rate, Step
from .samplers import Problem


@dataclass
class Bill:
    """A watcher that notes what was paid for, in its order: rungs without a candidate, ends with one."""

    problem: Problem
    rate: Rate
    steps: list[Step] = field(default_factory=list)
    _paid: dict[int, float] = field(default_factory=dict)

    def reached(self, outcome: Outcome, *, goes_on: bool) -> None:  # noqa: ARG002
        """A rung below the end."""
        self.steps.append(self._step(outcome))

    def finished(self, outcome: Outcome) -> None:
        """A candidate that was trained to its end; others have paid at their rungs."""
        if outcome.rung is None:
            error, _ = self.problem.points[outcome.pattern]
            self.steps.append(replace(self._step(outcome), pattern=outcome.pattern, search=error, unseen=error))

    def _step(self, outcome: Outcome) -> Step:
        """The work since the last rung, and its share of the seconds of the whole candidate."""
        work = outcome.work - self._paid.get(outcome.number, 0.0)
        self._paid[outcome.number] = outcome.work
        layers = Pattern.parse(outcome.pattern).depth
        return Step(work, self.rate.of(layers) * work / (layers / LAYERS))

    def phase(self, study: Study, wanted: int) -> None: ...
    def started(self, job: Job) -> None: ...
    def progressed(self, number: int, share: float) -> None: ...
    def reused(self, count: int) -> None: ...
    def say(self, line: str) -> None: ...


def with_rungs(problem: Problem, file: Path) -> Problem:
    """`problem` with the scores at a ninth and a third of the training; `file` has those of each of its patterns."""
    first, second, _ = Halving().rungs()
    with file.open(newline="") as source:
        rungs = {r["pattern"]: {first: float(r["first"]), second: float(r["second"])} for r in csv.DictReader(source)}
    known = {text: replace(one, rungs=rungs[text]) for text, one in problem.table.known.items()}
    return replace(problem, table=replace(problem.table, known=known))


def halved(problem: Problem, seed: int, folder: Path, rate: Rate) -> list[Step]:
    """The steps of `run --method halving` over the whole space, with one worker; `problem` has rungs."""
    bill = Bill(problem, rate)
    replay = replay_of(problem.table, "layers", "PatternSampler", seed, Halving())
    how = How("halving", f"sqlite:///{folder}/{seed}.db", folder, workers=0)
    run_replay(replay, how, trials=len(problem.points), watcher=bill)
    return bill.steps
