"""The rows of one study as its driver last saw them: read again only after a change, and each finished trial once.

Knows: that nothing of a finished trial can change, and that a storage puts a new object in a changed one's place. Does
not know: SQL, who writes trials, what rows are for.
"""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from layersearch.search.trials import Direction, Row, front_of, rows_of


class Ledger:
    """What `study` holds. After `changed` the next question reads the study, until then answers come from memory.

    Reading takes about 3 ms of SQL, and a turn of the driver asks a dozen times.
    """

    def __init__(self, study: optuna.Study, direction: Direction) -> None:
        self._study = study
        self._direction = direction
        self._settled: dict[int, list[Row]] = {}  # of finished trials by number; one row, or none without a pattern
        self._begun: dict[int, tuple[FrozenTrial, list[Row]]] = {}  # of the others, as they were last read
        self._front: list[Row] = []
        self._fresh = False

    def changed(self) -> None:
        """Something was written to the study, or may have been by another driver."""
        self._fresh = False

    def rows(self) -> list[Row]:
        """All trials that have a pattern, by number."""
        self._read()
        return self._rows

    def front(self) -> list[Row]:
        """The front of score against parameters, largest candidate first."""
        self._read()
        return self._front

    def finished(self) -> int:
        """Trials that are complete, or stopped at a rung for good."""
        return sum(row.done or row.stopped for row in self.rows())

    def waiting(self) -> bool:
        """Whether queued trials wait to be asked."""
        self._read()
        return self._waiting

    def trial(self, number: int) -> FrozenTrial:
        """Trial `number` as the storage has it."""
        return self._study._storage.get_trial(self.id_of(number))

    def id_of(self, number: int) -> int:
        """What the storage calls trial `number`."""
        return self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def _read(self) -> None:
        if self._fresh:
            return
        trials = self._study.get_trials(deepcopy=False)
        unfinished = [trial for trial in trials if not trial.state.is_finished()]
        settled = {t.number: rows_of([t]) for t in trials if t.number not in self._settled and t.state.is_finished()}
        self._settled |= settled
        self._front = front_of([*self._front, *(row for rows in settled.values() for row in rows)], self._direction)
        known = self._begun
        same = {t.number: known[t.number] for t in unfinished if t.number in known and known[t.number][0] is t}
        self._begun = {t.number: same.get(t.number) or (t, rows_of([t])) for t in unfinished}
        rows = self._settled | {number: found for number, (_, found) in self._begun.items()}
        self._rows = [row for number in sorted(rows) for row in rows[number]]
        self._waiting = any(trial.state == TrialState.WAITING for trial in unfinished)
        self._fresh = True
