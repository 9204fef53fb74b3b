"""One of Optuna's samplers, held to the patterns that a table has scores of.

Most patterns of twelve layers are in no table. A sampler that knows nothing of this would be refused nearly always, and
the study would draw at random in its place; here it gets the nearest pattern that is there.

Knows: Optuna's samplers, spaces. Does not know: tables, scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from layersearch.search_space import SearchSpace


class Within(BaseSampler):
    """Asks `inner`; a proposal outside `space` becomes the unseen pattern of it that differs in the fewest layers.

    The trial holds the parameters of what is evaluated, so `inner` learns from that. Queued trials cost it nothing.
    """

    def __init__(self, inner: BaseSampler, space: SearchSpace, num_layers: int) -> None:
        self._inner = inner
        self._known = [(str(p), space.params_of(p, num_layers) or {}) for p in space.patterns(num_layers)]
        self._choices = {name: CategoricalDistribution(space.choices) for name in self._known[0][1]}

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """All layers at once."""
        return dict(self._choices)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal of `inner`, moved into the space."""
        if "fixed_params" in trial.system_attrs:
            return {}
        asked = self._inner.infer_relative_search_space(study, trial)
        params = self._inner.sample_relative(study, trial, asked)
        for name, choices in search_space.items():
            if name not in params:
                params[name] = self._inner.sample_independent(study, trial, name, choices)
        if any(params == known for _, known in self._known):
            return params
        seen = {other.user_attrs.get("pattern") for other in study.get_trials(deepcopy=False)}
        unseen = [known for text, known in self._known if text not in seen]
        return min(unseen, key=lambda known: sum(known[name] != params[name] for name in known)) if unseen else params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As `inner` does."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As `inner` does."""
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As `inner` does."""
        self._inner.after_trial(study, trial, state, values)
