"""The study: the one record of a search. Open, check, heal, ask, tell, front.

Knows: Optuna's study in a SQL database, the fingerprint of what it is for, which patterns are known, the outbox. Does
not know: Ray, models, training, how progress is shown. The only file that opens the SQL study.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState

from layersearch.errors import StudyError
from layersearch.pattern import Pattern
from layersearch.search.ends import NOTHING, End, Ends, retried
from layersearch.search.found import create_or_load, known_elsewhere
from layersearch.search.lease import Lease
from layersearch.search.ledger import Ledger
from layersearch.search.objectives import Costs
from layersearch.search.orders import order_of
from layersearch.search.outbox import Outbox
from layersearch.search.purpose import Purpose
from layersearch.search.remembered import Remembered
from layersearch.search.samplers import make_sampler
from layersearch.search.screen import Parameters, Screen
from layersearch.search.settled import settle
from layersearch.search.starts import next_start
from layersearch.search.storage import PatientStorage
from layersearch.search.trials import RUNGS, Row, attributes_of, counts_against, forgotten
from layersearch.search_space import SearchSpace
from layersearch.strategies import named_patterns
from layersearch.training.job import Job, Outcome

REPEATS = 4  # proposals in a row that may be known patterns before an unseen one is drawn at random
RETRIES = 2  # times that a pattern whose worker died is tried again


class Study:
    """One open study that this process drives.

    `space` proposes patterns for a model of `num_layers` layers; without one (a confirmation) only what `enqueue` was
    given is asked. With `parameters`, which counts a pattern's, what is not worth a training is skipped (`screen.py`).
    `costs` are what the purpose wants small and limits, None for parameters alone.
    """

    def __init__(
        self,
        storage: PatientStorage,
        name: str,
        purpose: Purpose,
        lease: Lease,
        folder: Path,
        *,
        num_layers: int,
        space: SearchSpace | None,
        sampler: str,
        seed: int = 0,
        parameters: Parameters | None = None,
        costs: Costs | None = None,
    ) -> None:
        self.name = name
        self.purpose = purpose
        self.folder = folder
        self.reused = 0  # trials that this driver settled with what other studies know
        self._storage = storage
        self._lease = lease
        self._space = space
        self._num_layers = num_layers
        self._seed = seed
        self._strategies = named_patterns(num_layers, space.known if space else {})
        self._ends = Ends(purpose.direction, num_layers, costs)
        self._order = order_of(sampler, space, num_layers, purpose.direction)
        self._named = self._ends.tried(space.start_points(num_layers)) if space else ()
        self._named = self._named[:1] if self._order else self._named
        self._first: tuple[Pattern, ...] = ()
        self._screen = Screen(space, num_layers, purpose, parameters, costs=costs) if space else None
        self._outbox = Outbox(folder / "outbox")
        self._study = create_or_load(Remembered(storage) if lease.alone else storage, name, purpose)
        self._ledger = Ledger(self._study, purpose.direction)
        # A continued study must not draw again what its first part drew, and the same course must be repeatable.
        stream = seed + len(self._study.get_trials(deepcopy=False)) + (0 if lease.alone else os.getpid())
        self._study.sampler = make_sampler(sampler, stream, space, num_layers, costs)
        self._random = random.Random(stream)
        self._elsewhere = known_elsewhere(storage, name, purpose)

    @property
    def proposes(self) -> bool:
        """Whether the study has a space to propose patterns from; a confirmation has none."""
        return self._space is not None

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(self, wanted: int | None = None) -> Job | None:
        """The next candidate to evaluate, its trial RUNNING in the study; None if nothing unknown is left.

        None also as soon as the study holds `wanted` finished trials, which it can by what other studies know, and
        where an order (`orders.py`) waits for scores. A known proposal, and one that is not worth a training, becomes
        a PRUNED trial, one that another study of the database knows a COMPLETE one; neither is handed out.
        """
        if not self._lease.renew():
            raise StudyError(f"another process drives study {self.name!r} since the database was away; stop one")
        with self._lease.turn(self.name):
            if not self._lease.alone:
                self._ledger.changed()
            return self._ask(wanted)

    def _ask(self, wanted: int | None) -> Job | None:
        repeats = 0
        while (self._space is not None or self.waiting()) and not self._ends.waits(self.rows()):
            self._enqueue_start()
            if self._order and not self.waiting():
                return None
            if repeats >= REPEATS and not self.waiting() and not self._enqueue_unseen():
                return None
            trial = self._study.ask()
            self._ledger.changed()
            with self._storage.together():
                pattern = self._spell(trial)
                seed = int(trial.user_attrs.get("seed", self._seed))
                known = {"driver": self._lease.owner, "pattern": pattern, "seed": seed}
                known |= {"strategy": self._strategies.get(pattern or "")}
                for name, value in known.items():
                    if value is not None:
                        trial.set_user_attr(name, value)
            if pattern is None:
                self._close(trial.number, TrialState.PRUNED, {"reason": "spells no pattern of the space"})
                repeats += 1
                continue
            if self._settles(trial.number, pattern, seed):
                repeats += 1
                if wanted is not None and self.finished() >= wanted:
                    return None
                continue
            return self.job_of(trial.number, pattern, seed)
        return None

    def job_of(self, number: int, pattern: str, seed: int) -> Job:
        """What a worker is told of trial `number`."""
        screened = self._screen is not None and self._screen.parameters is not None
        measured = screened and pattern == str(Pattern.full(self._num_layers))
        costs = self._ends.costs_of(pattern)
        return Job(number, pattern, seed, self.purpose.scored_on, costs=costs, influence=measured)

    def _spell(self, trial: Trial) -> str | None:
        """The pattern that the trial stands for, None if it stands for none."""
        queued: str | None = trial.user_attrs.get("pattern")
        given = self._ledger.trial(trial.number).system_attrs.get("fixed_params")
        if self._space is None or (queued is not None and not given):
            return queued
        pattern = self._space.suggest(trial, self._num_layers)
        return queued or (None if pattern is None else str(pattern))

    def _settles(self, number: int, pattern: str, seed: int) -> bool:
        """Close the trial at once if it needs no training."""
        settled = settle(number, pattern, seed, self.rows(), self._elsewhere, self._screen, self._ends.costs)
        if settled is None:
            return False
        known = settled.known
        end = self._ends.taken_over(pattern, known, self.rows())
        self._close(number, TrialState.COMPLETE if known else TrialState.PRUNED, settled.attrs, end)
        self.reused += known is not None
        return True

    def _enqueue_unseen(self) -> bool:
        """Queue a pattern worth a training that no trial has, drawn at random; False if none is found."""
        return self._propose(self._screen.draw(self.rows(), self._random) if self._screen else None)

    def start_with(self, patterns: Sequence[Pattern]) -> None:
        """Ask for these patterns of the space first, after the unchanged model; a continued study knows them still."""
        first = dict.fromkeys([*map(Pattern.parse, self.facts.get("start_from", ())), *patterns])
        if first:
            self.note(start_from=[str(pattern) for pattern in first])
            self._first = (*self._named[:1], *first)
            self._screen = self._screen and dataclasses.replace(self._screen, starts=frozenset(first))

    def _enqueue_start(self) -> None:
        """Queue the next pattern that comes before what the sampler proposes, or in its place, if there is one."""
        if self._space is not None and not self.waiting():
            start = next_start(self.rows(), self._first, self._named)
            self._propose(start or (self._order and self._order(self.rows())))

    def _propose(self, pattern: Pattern | None, **more: Any) -> bool:
        """Queue `pattern`, if it is one, with what makes the space spell it."""
        if pattern is not None:
            params = self._space and self._space.params_of(pattern, self._num_layers)
            self._queue(params or {}, **more)
        return pattern is not None

    def enqueue(self, pattern: str, seed: int) -> None:
        """Queue `pattern` with `seed` unless a trial that counts has them."""
        alike = [r for r in self.rows() if (r.pattern, r.seed) == (pattern, seed)]
        if not any(r.state == "WAITING" or counts_against(r, number=-1) for r in alike):
            self._propose(Pattern.parse(pattern), user_attrs={"pattern": pattern, "seed": seed})

    def _queue(self, params: dict[str, Any], **more: Any) -> None:
        self._study.enqueue_trial(params, **more)
        self._ledger.changed()

    def add(self, pattern: str, seed: int, score: float, parameters: int) -> None:
        """Write down a score that nobody was asked for, unless `pattern` with `seed` has one."""
        if not any(row.done for row in self.rows() if (row.pattern, row.seed) == (pattern, seed)):
            outcome = Outcome(-1, pattern, seed, score=score, parameters=parameters)
            self._study.add_trial(self._ends.trial(outcome, {}))
            self._ledger.changed()

    def waiting(self) -> bool:
        """Whether queued trials wait to be asked."""
        return self._ledger.waiting()

    def waits(self) -> bool:
        """Whether `ask` may have more as soon as what is out, here or with another driver, has come to something."""
        ordered = self._order is not None and any(row.state == "RUNNING" for row in self.rows())
        return ordered or self._ends.waits(self.rows())

    # -- telling ---------------------------------------------------------------------------------------------------

    def tell(self, outcome: Outcome) -> None:
        """Record an outcome: first durably in the outbox, then in the study, waiting for the database if need be."""
        self._lease.renew()
        self._outbox.put(outcome)
        self._record(outcome)
        self._outbox.remove(outcome.number)

    def _record(self, outcome: Outcome) -> None:
        trial = self._ledger.trial(outcome.number)
        if outcome.pattern != trial.user_attrs.get("pattern", outcome.pattern):
            return  # left in the folder by a study of the same name in another database
        if trial.state == TrialState.FAIL and outcome.score is not None:
            self._add_late(trial, outcome)
        if trial.state != TrialState.RUNNING:
            return
        if outcome.score is None:
            self._fail(trial, outcome)
            return
        end = self._ends.of(outcome.pattern, outcome.score, outcome.parameters, self.rows())
        self._close(outcome.number, TrialState.COMPLETE, attributes_of(outcome), end)

    def _fail(self, trial: FrozenTrial, outcome: Outcome) -> None:
        """Close a trial as failed; one that was lost through no fault of its pattern is queued again."""
        tries = int(trial.user_attrs.get("retry", 0)) + outcome.died
        again = outcome.lost and tries <= RETRIES
        if again and RUNGS in trial.user_attrs:
            self._mark(trial.number, {"retry": tries})  # paused: it goes on from the last rung that it reached
            return
        self._close(trial.number, TrialState.FAIL, {**attributes_of(outcome), "lost": again})
        if again:
            self._queue_again(trial, tries)

    def _queue_again(self, trial: FrozenTrial, tries: int) -> None:
        params, attrs = retried(trial, tries)
        if params or "pattern" in attrs:
            self._queue(params, user_attrs=attrs)

    def _add_late(self, trial: FrozenTrial, outcome: Outcome) -> None:
        """A finished result whose trial another driver took for dead: kept as a trial of its own."""
        if not any(r.pattern == outcome.pattern and r.seed == outcome.seed and r.done for r in self.rows()):
            self._study.add_trial(self._ends.late(trial, outcome, self.rows()))
            self._ledger.changed()

    def reach(self, outcome: Outcome) -> None:
        """Write down what a running trial scored at a rung."""
        trial = self._ledger.trial(outcome.number)
        if trial.state == TrialState.RUNNING and trial.user_attrs.get("pattern") == outcome.pattern:
            rungs = {**dict(trial.user_attrs.get(RUNGS, ())), outcome.rung: outcome.score}
            reached = {"parameters": outcome.parameters, RUNGS: list(rungs.items())}
            self._mark(outcome.number, {**attributes_of(outcome), **reached})

    def stop(self, row: Row) -> None:
        """End a paused trial for good: PRUNED, with its rungs."""
        share, score = max(row.rungs.items())
        self._close(row.number, TrialState.PRUNED, {"reason": f"stopped at rung {share:.3g} with {score:.4f}"})

    def _close(self, number: int, state: TrialState, attrs: Mapping[str, Any], end: End = NOTHING) -> None:
        """Write attributes and the state at once."""
        for name, value in end.system_attrs.items():
            self._study._storage.set_trial_system_attr(self._ledger.id_of(number), name, value)
        told = {**attrs, **end.attrs}
        self._mark(number, told, lambda: self._study.tell(number, end.values, state=state, skip_if_finished=True))

    def _mark(self, number: int, attrs: Mapping[str, Any], then: Callable[[], object] = lambda: None) -> None:
        """Write attributes of an unfinished trial, and what `then` does to it, at once."""
        trial_id = self._ledger.id_of(number)
        with self._storage.together():
            for name, value in attrs.items():
                if value is not None:
                    self._study._storage.set_trial_user_attr(trial_id, name, value)
            then()
        self._ledger.changed()

    def heal(self) -> int:
        """Settle what a dead driver left: tell what its outbox holds, queue again all but what is paused; how many."""
        for outcome in self._outbox.pending():
            self._record(outcome)
            self._outbox.remove(outcome.number)
        running = self._study.get_trials(states=(TrialState.RUNNING,))
        left = [t for t in running if self._lease.is_left(t.user_attrs.get("driver"), t.datetime_start)]
        dead = [trial for trial in left if RUNGS not in trial.user_attrs]
        for trial in dead:
            self._fail(trial, Outcome(trial.number, "", 0, reason="the driver died while it ran", lost=True))
        for trial in forgotten(self._study.get_trials(deepcopy=False)):
            self._queue_again(trial, int(trial.user_attrs.get("retry", 0)))
        return len(dead)

    def rows(self) -> list[Row]:
        """All trials that have a pattern."""
        return self._ledger.rows()

    def finished(self) -> int:
        """Trials that are complete, or stopped at a rung for good: the number that `--trials` asks for."""
        return self._ledger.finished()

    def front(self) -> list[Row]:
        """The front of score against parameters, largest candidate first."""
        return self._ledger.front()

    @property
    def facts(self) -> dict[str, Any]:
        """What `note` wrote down."""
        return dict(self._study.user_attrs)

    def note(self, **values: Any) -> None:
        """Write down facts that are not the study's purpose: who drives it, where its parts lie."""
        for name, value in values.items():
            self._study.set_user_attr(name, value)
