"""Optuna's SQL storage with one transaction for what belongs together: all that is known of a trial when it is asked,
and all that is known when it is told.

Knows: the tables of Optuna's schema that hold it. Does not know: waiting for a database, studies, what is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import delete, insert, select, update

Values = dict[str, Any]


@dataclass
class Held:
    """What shall be written of one trial: rows of parameters, rows of attributes by name, its end."""

    params: list[Values] = field(default_factory=list)
    attrs: dict[str, Values] = field(default_factory=dict)
    end: TrialState | None = None
    values: Sequence[float] = ()


class GroupedStorage(RDBStorage):
    """Optuna commits every parameter, every attribute and the state by itself: about 30 commits for twelve layers.

    Inside `together` they are held back and written at its end, in one transaction a trial; so a driver that dies
    leaves no trial with half of its parameters or its outcome.
    """

    _held: dict[int, Held] | None = None  # by trial id, inside `together`

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is set on trials in this context at its end; nothing of it if the context raises."""
        self._held = {}
        try:
            yield
            held, self._held = self._held, None
            for trial_id, values in held.items():
                self.write_trial(trial_id, values)
        finally:
            self._held = None

    def write_trial(self, trial_id: int, held: Held) -> None:
        """Insert parameters, replace attributes by name, end the trial: all or nothing. It must be unfinished."""
        params, attrs, values = models.TrialParamModel, models.TrialUserAttributeModel, models.TrialValueModel
        its = models.TrialModel.trial_id == trial_id
        with self.engine.begin() as connection:
            state = connection.execute(select(models.TrialModel.state).where(its).with_for_update()).scalar_one()
            self.check_trial_is_updatable(trial_id, state)
            if held.params:
                connection.execute(insert(params), held.params)
            if held.attrs:
                connection.execute(delete(attrs).where(attrs.trial_id == trial_id, attrs.key.in_(list(held.attrs))))
                connection.execute(insert(attrs), list(held.attrs.values()))
            if held.values:
                connection.execute(insert(values), [_value(trial_id, *pair) for pair in enumerate(held.values)])
            if held.end is not None:
                end = {"state": held.end, "datetime_complete": datetime.now()}
                connection.execute(update(models.TrialModel).where(its).values(end))

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        """Called by Optuna's cache, which knows the distribution from the second time on."""
        if self._held is None or previous_distribution is None:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)
            return
        check_distribution_compatibility(previous_distribution, distribution)
        row = {
            "trial_id": trial_id,
            "param_name": param_name,
            "param_value": param_value_internal,
            "distribution_json": distribution_to_json(distribution),
        }
        self._held.setdefault(trial_id, Held()).params.append(row)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As in Optuna, or held back."""
        if self._held is None:
            super().set_trial_user_attr(trial_id, key, value)
            return
        row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        self._held.setdefault(trial_id, Held()).attrs[key] = row

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As in Optuna, or held back if it is the trial's end."""
        if self._held is None or not state.is_finished():
            return super().set_trial_state_values(trial_id, state, values)
        held = self._held.setdefault(trial_id, Held())
        held.end, held.values = state, values or ()
        return True


def _value(trial_id: int, objective: int, value: float) -> Values:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
