"""Optuna's SQL storage with one transaction for what belongs together: a trial's parameters, a trial's attributes.

Knows: the tables of Optuna's schema that hold them. Does not know: waiting for a database, studies, what is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models

Values = dict[str, Any]


class GroupedStorage(RDBStorage):
    """Optuna commits every parameter and every attribute by itself: a trial of twelve layers is about 30 commits.

    Inside `together` they are held back and written at its end, in one transaction a trial; so a driver that dies
    leaves no trial with half of its parameters.
    """

    # by trial id: rows of parameters, and rows of attributes by name
    _held: dict[int, tuple[list[Values], dict[str, Values]]] | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is set on trials in this context at its end; nothing of it if the context raises."""
        self._held = {}
        try:
            yield
            held, self._held = self._held, None
            for trial_id, (params, attrs) in held.items():
                self.write_trial(trial_id, params, attrs)
        finally:
            self._held = None

    def write_trial(self, trial_id: int, params: list[Values], attrs: dict[str, Values]) -> None:
        """Insert rows of parameters and replace attributes by name, all or nothing. The trial must be unfinished."""
        with self.engine.begin() as connection:
            its_state = sqlalchemy.select(models.TrialModel.state).where(models.TrialModel.trial_id == trial_id)
            self.check_trial_is_updatable(trial_id, connection.execute(its_state).scalar_one())
            if params:
                connection.execute(sqlalchemy.insert(models.TrialParamModel), params)
            if attrs:
                table = models.TrialUserAttributeModel
                connection.execute(
                    sqlalchemy.delete(table).where(table.trial_id == trial_id, table.key.in_(list(attrs)))
                )
                connection.execute(sqlalchemy.insert(table), list(attrs.values()))

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
        self._held.setdefault(trial_id, ([], {}))[0].append(row)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As in Optuna, or held back."""
        if self._held is None:
            super().set_trial_user_attr(trial_id, key, value)
            return
        row = {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        self._held.setdefault(trial_id, ([], {}))[1][key] = row
