"""Proposals that need no training: what this study or another one knows, what is over
a limit, and what is not worth it.

Knows: rows, what other studies found, the limits, the screen. Does not know: Optuna's study, how an answer is written
down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from layersearch.pattern import Pattern
from layersearch.search.objectives import Costs
from layersearch.search.screen import Screen
from layersearch.search.trials import Row, counts_against

COPIED = (
    *("interval", "redrawn", "metrics", "seconds", "train_seconds", "score_seconds", "versions", "influence"),
    *("non_zero", "sparsity", "constant", "mix"),
)


@dataclass(frozen=True)
class Settled:
    """How a trial ends at once: complete with the score and parameters of `known`, or pruned; and its attributes."""

    attrs: Mapping[str, Any]
    known: Row | None = None


def settle(
    number: int,
    pattern: str,
    seed: int,
    rows: Iterable[Row],
    elsewhere: Mapping[tuple[str, int], tuple[str, Row]],
    screen: Screen | None,
    costs: Costs | None = None,
) -> Settled | None:
    """What becomes of trial `number` without training, None if it is to be trained.

    `elsewhere` holds, by pattern and seed, a study's name and its row. What is over a limit of `costs` is not trained,
    unless it is the unchanged model, which all others are compared with.
    """
    rows = list(rows)
    same = (row for row in rows if (row.pattern, row.seed) == (pattern, seed))
    repeated = next((row for row in same if counts_against(row, number)), None)
    if repeated is not None:
        return Settled({"reason": f"repeat of trial {repeated.number}"})
    if costs is not None and pattern != str(Pattern.full(costs.num_layers)):
        reason = costs.why_not(Pattern.parse(pattern))
        if reason is not None:
            return Settled({"reason": reason})
    if (pattern, seed) in elsewhere:
        return _taken_over(*elsewhere[pattern, seed])
    reasons = {} if screen is None else screen.skipped([Pattern.parse(pattern)], rows)
    return Settled({"reason": reasons[pattern]}) if reasons else None


def _taken_over(study: str, row: Row) -> Settled:
    attrs = {name: getattr(row, name) for name in COPIED} | {"reused": f"trial {row.number} of {study}"}
    return Settled(attrs, row)
