"""What a study's trials say, as plain rows: the front, the confirmation, the share of the unchanged score kept.

Knows: Optuna's frozen trials and the attributes that `study.py` writes on them. Does not know: SQL, who made them, how
they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from layersearch.search.fronts import fronts
from layersearch.training.job import Outcome

Direction = Literal["maximize", "minimize"]
HALF_WIDTH = 1.96  # standard errors on either side in a 95 % interval
RUNGS = "rungs"  # the attribute with a trial's rungs: pairs of share and score

BEATEN = "beaten proposal"  # how the reasons begin for which a proposal was not worth a training (screen.py)
LOW_RANKED = "low-ranked proposal"


@dataclass(frozen=True)
class Row:
    """One trial that has a pattern. `score` is None unless it is complete, `parameters` as long as nobody counted them.

    Times are in seconds, `work` is in fine-tunings of the unchanged model. `start` names the folder of the weights that
    the candidate started from, None for the pre-trained ones. `rungs` are scores on the way, by the share of the
    recipe's steps that was done; `redrawn` over examples drawn anew (`tasks/metrics.py`),
    `seeds` of each seed where `score` is a mean over several; `mix` says what it learnt to mix of its layers. `costs`
    are the objectives behind the score of a complete trial, in the study's order; `non_zero`, `sparsity` and `constant`
    are as in `training/job.py`; `over` tells, by name, how far it is over a limit where that is above 0.
    """

    number: int
    state: str
    pattern: str
    seed: int
    score: float | None = None
    interval: tuple[float, float] | None = None
    metrics: dict[str, float] | None = None
    parameters: int | None = None
    non_zero: int | None = None
    sparsity: float | None = None
    constant: float | None = None
    seconds: float | None = None
    train_seconds: float | None = None
    score_seconds: float | None = None
    work: float | None = None
    strategy: str | None = None
    checkpoint: str | None = None
    start: str | None = None
    reused: str | None = None
    versions: str | None = None
    mix: str | None = None
    reason: str | None = None
    influence: dict[str, list[float]] | None = None
    lost: bool = False
    ended: datetime | None = field(default=None, compare=False)  # to the microsecond only in the database
    rungs: Mapping[float, float] = field(default_factory=dict)
    redrawn: tuple[float, ...] = ()
    seeds: tuple[float, ...] = ()
    costs: tuple[float, ...] = ()
    over: Mapping[str, float] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[float, ...]:
        """What shall be small beside a good score: `costs`, or the parameters where there are none."""
        return self.costs or (self.parameters or 0,)

    @property
    def allowed(self) -> bool:
        """Whether it keeps the study's limits."""
        return all(over <= 0 for over in self.over.values())

    @property
    def done(self) -> bool:
        """Whether the trial is complete, with a score."""
        return self.score is not None

    @property
    def paused(self) -> bool:
        """Whether it has reached a rung and nothing more: it may go on, or is about to."""
        return self.state == "RUNNING" and bool(self.rungs)

    @property
    def stopped(self) -> bool:
        """Whether it was stopped at a rung for good."""
        return self.state == "PRUNED" and bool(self.rungs)


def rows_of(trials: Iterable[FrozenTrial]) -> list[Row]:
    """The rows of `trials`, those without a pattern (a driver died while it asked) left out."""
    return [_row(trial) for trial in trials if "pattern" in trial.user_attrs]


def _row(trial: FrozenTrial) -> Row:
    attrs = trial.user_attrs
    done = trial.state == TrialState.COMPLETE
    interval = attrs.get("interval")
    names = ("seconds", "train_seconds", "score_seconds", "work", "strategy", "checkpoint", "start", "reused")
    left = ("non_zero", "sparsity", "constant", "mix")
    known: dict[str, Any] = {name: attrs.get(name) for name in (*names, *left, "versions", "reason")}
    return Row(
        number=trial.number,
        state=trial.state.name,
        pattern=attrs["pattern"],
        seed=attrs.get("seed", 0),
        score=trial.values[0] if done else None,
        interval=tuple(interval) if interval else None,
        redrawn=tuple(attrs.get("redrawn", ())),
        metrics=attrs.get("metrics"),
        parameters=attrs.get("parameters", round(trial.values[1]) if done else None),
        **known,
        influence=attrs.get("influence"),
        lost=bool(attrs.get("lost")),
        ended=trial.datetime_complete,
        rungs=dict(attrs.get(RUNGS, ())),
        costs=tuple(trial.values[1:]) if done else (),
        over=trial.constraints,
    )


def front_of(rows: Sequence[Row], direction: Direction) -> list[Row]:
    """The complete rows within the limits that no other beats in score and costs, largest first; of equals one."""
    sign = 1.0 if direction == "maximize" else -1.0
    done = sorted((row for row in rows if row.score is not None and row.allowed), key=lambda row: row.number)
    points = [(sign * (row.score or 0.0), *row.sizes) for row in done]
    return [done[place] for front in fronts(points)[:1] for place in front]


def best_no_larger(front: Sequence[Row], row: Row, direction: Direction) -> Row | None:
    """The best score of `front` among those that are no larger than `row` in anything that shall be small."""
    sign = 1.0 if direction == "maximize" else -1.0
    smaller = [other for other in front if all(a <= b for a, b in zip(other.sizes, row.sizes, strict=True))]
    return max(smaller, key=lambda other: sign * (other.score or 0.0), default=None)


def front_to_confirm(front: Sequence[Row], unchanged: str) -> list[str]:
    """The patterns that are confirmed: the unchanged model and the front."""
    return list(dict.fromkeys([unchanged, *(row.pattern for row in front)]))


def baseline_of(rows: Iterable[Row], unchanged: str) -> Row | None:
    """The complete row of the unchanged model, whose pattern is `unchanged`."""
    return next((row for row in rows if row.pattern == unchanged and row.done), None)


@dataclass(frozen=True)
class Confirmed:
    """What fresh seeds gave for one pattern on the official validation set. `spread` is a sample standard deviation.

    `intervals` and `redrawn` are over the examples, by seed: each score's 95 % interval, and what it is over examples
    drawn anew (`tasks/metrics.py`), nothing where a study is older than that.
    """

    pattern: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    mean: float
    spread: float | None
    intervals: tuple[tuple[float, float] | None, ...] = ()
    redrawn: tuple[tuple[float, ...], ...] = ()


def confirmed_of(rows: Iterable[Row]) -> dict[str, Confirmed]:
    """The confirmation by pattern, from the rows of a confirmation study."""
    known: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row.score is not None:
            known.setdefault(row.pattern, {})[row.seed] = row
    return {pattern: _confirmed(pattern, by_seed) for pattern, by_seed in known.items()}


def _confirmed(pattern: str, by_seed: dict[int, Row]) -> Confirmed:
    rows = [by_seed[seed] for seed in sorted(by_seed)]
    values = tuple(row.score for row in rows if row.score is not None)
    return Confirmed(
        pattern=pattern,
        seeds=tuple(sorted(by_seed)),
        scores=values,
        mean=fmean(values),
        spread=stdev(values) if len(values) > 1 else None,
        intervals=tuple(row.interval for row in rows),
        redrawn=tuple(row.redrawn for row in rows),
    )


def tied(row: Row, best: Row) -> bool:
    """Whether the two intervals overlap, so that the scores cannot be told apart."""
    if row.interval is None or best.interval is None:
        return False
    return row.interval[0] <= best.interval[1] and best.interval[0] <= row.interval[1]


def tied_with_next(front: Sequence[Row]) -> set[int]:
    """The numbers of those in `front`, largest first, whose scores cannot be told from that of the next smaller one."""
    return {one.number for one, smaller in pairwise(front) if tied(one, smaller)}


def kept_share(score: float | None, unchanged: float | None, direction: Direction) -> float | None:
    """`score` as a share of the `unchanged` model's, None where both are not numbers above zero.

    Where less is better it is the other way round, so that half is kept of a score that is twice as large.
    """
    if score is None or unchanged is None or unchanged <= 0:
        return None
    if direction == "maximize":
        return score / unchanged
    return unchanged / score if score > 0 else None


def as_record(
    row: Row,
    baseline: Row | None,
    confirmed: Confirmed | None,
    unchanged_parameters: int,
    *,
    on_front: bool,
    costs: Mapping[str, float] | None = None,
    direction: Direction = "maximize",
) -> dict[str, Any]:
    """One complete trial as plain values for CSV and JSON; `costs` are further ones by name."""
    return {
        "trial": row.number,
        "pattern": row.pattern,
        "parameters": row.parameters,
        "parameters_share": None if row.parameters is None else row.parameters / unchanged_parameters,
        "score": row.score,
        "interval_low": row.interval[0] if row.interval else None,
        "interval_high": row.interval[1] if row.interval else None,
        "score_kept": kept_share(row.score, None if baseline is None else baseline.score, direction),
        "train_seconds": row.train_seconds,
        "confirmed_mean": confirmed.mean if confirmed else None,
        "confirmed_spread": confirmed.spread if confirmed else None,
        "confirmed_seeds": len(confirmed.seeds) if confirmed else 0,
        "strategy": row.strategy,
        "on_front": on_front,
        "weights_kept": row.checkpoint is not None,
        **(costs or {}),
    }


IN_WORDS = {  # Optuna's states, as the end of a sentence that begins with a trial that has no pattern
    "WAITING": "waits for its turn",
    "RUNNING": "is running",
    "COMPLETE": "has no pattern",
    "PRUNED": "spells no pattern of the space",
    "FAIL": "failed before it had a pattern",
}


def in_words(row: Row) -> str:
    """What became of a trial that has no score, as the end of a sentence that begins with the trial."""
    if row.stopped:
        return f"was {row.reason}"
    if row.state == "PRUNED":
        return f"is a {row.reason or 'repeat'}"
    if row.state == "FAIL":
        return f"{'was stopped and queued again' if row.lost else 'failed'} ({row.reason or 'no reason is known'})"
    return IN_WORDS[row.state]


def counts_against(row: Row, number: int) -> bool:
    """Whether `row` makes trial `number` with the same pattern a repeat: complete, running, stopped or failed."""
    if row.number == number or (row.state in ("WAITING", "PRUNED") and not row.stopped):
        return False
    return not (row.state == "FAIL" and row.lost)


def forgotten(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Lost trials that were not queued again: their driver died between failing and queueing them."""
    followed = {trial.user_attrs.get("retry_of") for trial in trials}
    lost = [trial for trial in trials if trial.state == TrialState.FAIL and trial.user_attrs.get("lost")]
    return [trial for trial in lost if trial.number not in followed]


def attributes_of(outcome: Outcome) -> dict[str, Any]:
    """The user attributes of a finished trial: short, plain names, what the dashboard and the reports show."""
    attrs: dict[str, Any] = {
        "metrics": {k: round(v, 6) for k, v in outcome.metrics.items()} or None,
        "interval": outcome.interval and [round(v, 6) for v in outcome.interval],
        "redrawn": [round(v, 5) for v in outcome.redrawn] or None,
        "non_zero": outcome.non_zero,
        "sparsity": outcome.sparsity,
        "constant": outcome.constant,
        "train_loss": None if outcome.train_loss is None else round(outcome.train_loss, 6),
        "seconds": round(outcome.seconds, 3),
        "train_seconds": round(outcome.train_seconds, 3),
        "score_seconds": round(outcome.score_seconds, 3),
        "examples": outcome.examples,
        "work": round(outcome.work, 4),
        "precision": outcome.precision,
        "versions": outcome.versions,
        "ray_trial": outcome.ray_trial,
        "mix": outcome.mix,
        "checkpoint": outcome.checkpoint,
        "start": outcome.start,
        "note": outcome.note,
        "influence": {k: [float(f"{v:.4g}") for v in values] for k, values in outcome.influence.items()} or None,
        "reason": outcome.reason,
    }
    return attrs
