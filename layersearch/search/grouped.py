"""Optuna's SQL storage with few transactions and little memory: what belongs together is written together, and trials
are read without an object for every value.

Knows: the tables of Optuna's schema. Does not know: waiting for a database, studies, what is written.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from sys import intern
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, or_, select, update

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
        """Write parameters and attributes by name, end the trial: all or nothing. It must be unfinished.

        The same once more changes nothing: the answer to the first may have been lost with the connection.
        """
        params, attrs, values = models.TrialParamModel, models.TrialUserAttributeModel, models.TrialValueModel
        its = models.TrialModel.trial_id == trial_id
        with self.engine.begin() as connection:
            state = connection.execute(select(models.TrialModel.state).where(its).with_for_update()).scalar_one()
            if held.end is not None and state == held.end:
                return
            self.check_trial_is_updatable(trial_id, state)
            if held.params:
                names = [param["param_name"] for param in held.params]
                connection.execute(delete(params).where(params.trial_id == trial_id, params.param_name.in_(names)))
                connection.execute(insert(params), held.params)
            if held.attrs:
                connection.execute(delete(attrs).where(attrs.trial_id == trial_id, attrs.key.in_(list(held.attrs))))
                connection.execute(insert(attrs), list(held.attrs.values()))
            if held.values:
                connection.execute(insert(values), [_value(trial_id, *pair) for pair in enumerate(held.values)])
            if held.end is not None:
                now = datetime.now(UTC).replace(tzinfo=None)  # as Optuna stores times
                end = {models.TrialModel.state: held.end, models.TrialModel._datetime_complete_utc: now}
                connection.execute(update(models.TrialModel).where(its).values(end))

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """As in Optuna: the study's trials behind an id, and those of the given ids before it.

        Optuna makes an ORM object of every parameter and attribute: 8 s and 400 MB for 10,000 trials of twelve layers.
        All tables are read as of one moment, whoever writes meanwhile.
        """
        trial = models.TrialModel
        before = [trial_id for trial_id in included_trial_ids if trial_id <= trial_id_greater_than]
        wanted = [trial.study_id == study_id, or_(trial.trial_id > trial_id_greater_than, trial.trial_id.in_(before))]
        if states is not None:
            wanted.append(trial.state.in_([state for state in TrialState if state in states]))
        with _as_of_one_moment(self.engine) as connection:
            times = (trial._datetime_start_utc, trial._datetime_complete_utc)
            heads = select(trial.number, trial.state, *times, trial.trial_id).where(*wanted)
            found = connection.execute(heads.order_by(trial.trial_id)).all()
            parts = {row.trial_id: Parts() for row in found}
            _read_parts(connection, wanted, parts)
        return [
            FrozenTrial(number, state, None, _local(start), _local(end), trial_id=trial_id, **vars(parts[trial_id]))
            for number, state, start, end, trial_id in found
        ]

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


@contextmanager
def _as_of_one_moment(engine: Engine) -> Iterator[Connection]:
    """A connection whose reads all see what was there at the first; Python's sqlite3 begins no transaction to read."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
            yield connection
        else:
            yield connection.execution_options(isolation_level="REPEATABLE READ")


@dataclass
class Parts:
    """What other tables hold of a trial."""

    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)
    intermediate_values: dict[int, float] = field(default_factory=dict)
    values: list[float] | None = None


def _read_parts(connection: Connection, wanted: Iterable[ColumnElement[bool]], parts: dict[int, Parts]) -> None:
    """Fill `parts` (by trial id) from the other tables. Equal distributions and names are one object each."""

    def rows(model: Any, *columns: Any) -> Iterator[Any]:
        query = select(model.trial_id, *columns).join(models.TrialModel).where(*wanted)
        return iter(connection.execute(query.order_by(columns[0])))

    distribution = cache(json_to_distribution)
    param, value, step = models.TrialParamModel, models.TrialValueModel, models.TrialIntermediateValueModel
    for trial_id, _, name, stored, text in rows(
        param, param.param_id, param.param_name, param.param_value, param.distribution_json
    ):
        parts[trial_id].params[intern(name)] = distribution(text).to_external_repr(stored)
        parts[trial_id].distributions[intern(name)] = distribution(text)
    user, system = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
    for trial_id, key, text in rows(user, user.key, user.value_json):
        parts[trial_id].user_attrs[intern(key)] = json.loads(text)
    for trial_id, key, text in rows(system, system.key, system.value_json):
        parts[trial_id].system_attrs[intern(key)] = json.loads(text)
    for trial_id, _, stored, kind in rows(value, value.objective, value.value, value.value_type):
        parts[trial_id].values = [*(parts[trial_id].values or []), value.stored_repr_to_value(stored, kind)]
    for trial_id, number, stored, kind in rows(step, step.step, step.intermediate_value, step.intermediate_value_type):
        found = step.stored_repr_to_intermediate_value(stored, kind)
        parts[trial_id].intermediate_values[number] = found


def _local(time: datetime | None) -> datetime | None:
    """Optuna's stored times are in UTC, those it shows are local."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _value(trial_id: int, objective: int, value: float) -> Values:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
