"""The rows of one study as its driver last saw them: read again only after a change, and each finished trial once.

Knows: that nothing of a finished trial can change. Does not know: SQL, who writes trials, what rows are for.
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
        self._settled: dict[int, list[Row]] = {}
        self.changed()

    def changed(self) -> None:
        """Something was written to the study, or may have been by another driver."""
        self._trials: list[FrozenTrial] | None = None
        self._rows: list[Row] = []
        self._front: list[Row] | None = None

    def rows(self) -> list[Row]:
        """All trials that have a pattern, by number."""
        self._read()
        return self._rows

    def front(self) -> list[Row]:
        """The front of score against parameters, largest candidate first."""
        self._read()
        if self._front is None:
            self._front = front_of(self._rows, self._direction)
        return self._front

    def finished(self) -> int:
        """Complete trials."""
        return sum(row.done for row in self.rows())

    def waiting(self) -> bool:
        """Whether queued trials wait to be asked."""
        return any(trial.state == TrialState.WAITING for trial in self._read())

    def _read(self) -> list[FrozenTrial]:
        if self._trials is None:
            self._trials = self._study.get_trials(deepcopy=False)
            self._rows = [row for trial in self._trials for row in self._row_of(trial)]
        return self._trials

    def _row_of(self, trial: FrozenTrial) -> list[Row]:
        """The trial's row, none if it has no pattern."""
        if trial.number not in self._settled:
            rows = rows_of([trial])
            if not trial.state.is_finished():
                return rows
            self._settled[trial.number] = rows
        return self._settled[trial.number]
