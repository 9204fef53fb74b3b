"""How a trial ends, in numbers: the values of its objectives, how far it is over a limit, and what it leaves behind.

Knows: a study's costs and limits, rows, the form that Optuna wants. Does not know: SQL, who ends a trial, why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, create_trial

from layersearch.errors import TrainingError
from layersearch.pattern import Pattern
from layersearch.search.objectives import SCORE, Costs
from layersearch.search.trials import Direction, Row, attributes_of, baseline_of
from layersearch.training.job import Outcome


@dataclass(frozen=True)
class End:
    """What is written of a trial beside its state: the objectives' values, attributes, and Optuna's constraints."""

    values: list[float] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)

    @property
    def system_attrs(self) -> Mapping[str, Any]:
        """The constraints as Optuna stores them."""
        return create_trial(value=0.0, constraints=dict(self.constraints)).system_attrs if self.constraints else {}


NOTHING = End()


@dataclass(frozen=True)
class Ends:
    """How trials of one study end. Without `costs` the second objective is the parameters, and there are no limits."""

    direction: Direction
    num_layers: int
    costs: Costs | None = None

    @property
    def unchanged(self) -> str:
        """The pattern of the unchanged model."""
        return str(Pattern.full(self.num_layers))

    def allows(self, pattern: Pattern) -> bool:
        """Whether a pattern keeps the limits that can be told before training."""
        return self.costs is None or self.costs.allows(pattern)

    def costs_of(self, pattern: str) -> tuple[float, ...]:
        """The objectives behind the score, where they are not the parameters alone."""
        own = self.costs is not None and not self.costs.is_default
        return self.costs.values(Pattern.parse(pattern)) if self.costs and own else ()

    def tried(self, patterns: Iterable[Pattern]) -> tuple[Pattern, ...]:
        """Those of `patterns` that keep the limits, and the unchanged model, which all are compared with."""
        return tuple(p for p in patterns if self.allows(p) or p == Pattern.full(self.num_layers))

    def waits(self, rows: Sequence[Row]) -> bool:
        """Whether nothing can be judged yet: the least score is a share of one that is still being made.

        Raises TrainingError where it never will be.
        """
        limit = self.costs and self.costs.min_score
        if not limit or not limit.is_share or baseline_of(rows, self.unchanged) is not None:
            return False
        unchanged = [row for row in rows if row.pattern == self.unchanged]
        broken = [row.reason for row in unchanged if row.state == "FAIL" and not row.lost]
        if broken:
            raise TrainingError(
                f"the unchanged model cannot be trained ({broken[0]}), and {limit.option} is a share of its score: ask "
                "with another recipe, or give a number"
            )
        return any(row.state == "RUNNING" for row in unchanged)

    def taken_over(self, pattern: str, known: Row | None, rows: Sequence[Row]) -> End:
        """The end of a trial that is not trained: with the score of a row of another study, or without any."""
        return self.of(pattern, known.score, known.parameters, rows) if known else self.of(pattern)

    def of(
        self, pattern: str, score: float | None = None, parameters: int | None = None, rows: Sequence[Row] = ()
    ) -> End:
        """The end of a trial with `pattern`; without a score it has no values. `rows` are the study's."""
        values = None if score is None or parameters is None else [score, float(parameters)]
        if self.costs is None or self.costs.is_default:
            return End(values)
        spelled = Pattern.parse(pattern)
        over = self.costs.constraints(spelled)
        if score is None or parameters is None:
            return End(constraints=over)
        values = [score, *map(float, self.costs.values(spelled))]
        return End(values, {"parameters": parameters}, over | self._under(pattern, score, rows))

    def _under(self, pattern: str, score: float, rows: Sequence[Row]) -> dict[str, float]:
        """How far `score` is under the least that is asked for; nothing where that cannot be told."""
        limit = self.costs and self.costs.min_score
        baseline = baseline_of(rows, self.unchanged)
        whole = baseline.score if baseline is not None else score if pattern == self.unchanged else None
        if not limit or (limit.is_share and whole is None):
            return {}
        return {SCORE: limit.bound(whole or 0.0) - score}

    def trial(self, outcome: Outcome, attrs: Mapping[str, Any], rows: Sequence[Row] = (), **more: Any) -> FrozenTrial:
        """A complete trial of `outcome` that was never asked for; `more` as `create_trial` takes it."""
        end = self.of(outcome.pattern, outcome.score, outcome.parameters, rows)
        own = {"pattern": outcome.pattern, "seed": outcome.seed}
        return create_trial(
            values=end.values, user_attrs={**attrs, **end.attrs, **own}, constraints=dict(end.constraints), **more
        )

    def late(self, trial: FrozenTrial, outcome: Outcome, rows: Sequence[Row]) -> FrozenTrial:
        """A complete trial with the parameters of `trial`, which was taken for dead before its `outcome` came."""
        attrs = {**attributes_of(outcome), "late": trial.number}
        return self.trial(outcome, attrs, rows, params=trial.params, distributions=trial.distributions)


def retried(trial: FrozenTrial, tries: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and attributes of the trial that takes the place of one that was lost."""
    attrs: dict[str, Any] = {"retry": tries, "retry_of": trial.number}
    attrs |= {name: trial.user_attrs[name] for name in ("pattern", "seed") if name in trial.user_attrs}
    return trial.system_attrs.get("fixed_params") or trial.params, attrs
