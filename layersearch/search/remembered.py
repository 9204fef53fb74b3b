"""Optuna's cache over the SQL storage for a study that one process drives alone: what it wrote it need not read.

Knows: how a write changes a trial. Does not know: SQL, samplers, what trials mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState


class Remembered(_CachedStorage):
    """Reads a study's trials once, and from then on repeats every write on its own picture of them.

    Optuna's own cache asks the database for all unfinished trials at every look, about ten looks of seven queries a
    trial. Only for a driver with the study to itself (`Lease.alone`): what another process writes stays unseen.
    """

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if study_id not in self._studies or not self._studies[study_id].trials:
            super()._read_trials_from_remote_storage(study_id)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial as it was last written, a copy: Optuna's `Trial` writes into its own."""
        if trial_id not in self._trial_id_to_study_id_and_number:
            return super().get_trial(trial_id)
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        return _copied(self._studies[study_id].trials[number])

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """As in Optuna."""
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

        def write(trial: FrozenTrial) -> None:
            trial.params[param_name] = distribution.to_external_repr(param_value_internal)
            trial.distributions[param_name] = distribution

        self._change(trial_id, write)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As in Optuna."""
        super().set_trial_user_attr(trial_id, key, value)
        self._change(trial_id, lambda trial: trial.set_user_attr(key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As in Optuna."""
        super().set_trial_system_attr(trial_id, key, value)
        self._change(trial_id, lambda trial: trial.system_attrs.__setitem__(key, value))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """As in Optuna."""
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._change(trial_id, lambda trial: trial.intermediate_values.__setitem__(step, intermediate_value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """As in Optuna."""
        changed = super().set_trial_state_values(trial_id, state, values)

        def write(trial: FrozenTrial) -> None:
            trial.state = state
            trial.values = values
            if state == TrialState.RUNNING:
                trial.datetime_start = datetime.now()
            if state.is_finished():
                trial.datetime_complete = datetime.now()

        if changed:
            self._change(trial_id, write)
        return changed

    def _change(self, trial_id: int, write: Callable[[FrozenTrial], None]) -> None:
        """Put a changed copy in the trial's place: others hold the old one."""
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        trial = _copied(self._studies[study_id].trials[number])
        write(trial)
        self._studies[study_id].trials[number] = trial


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """The trial with dictionaries of its own."""
    found = copy(trial)
    for name in ("_params", "_distributions", "_user_attrs", "_system_attrs", "intermediate_values"):
        setattr(found, name, dict(getattr(trial, name)))
    return found
