"""What strategies spell for a model, with parameters: for one k, for all of them, or by a threshold.

Knows: strategies by name, measured ones too, and counts of parameters. Does not know: how anything is measured, search
spaces, how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from layersearch.errors import PatternError
from layersearch.measured import BY_THRESHOLD, MEASURED, NAMES, Measured
from layersearch.names import unknown
from layersearch.pattern import PartCounts, Pattern
from layersearch.strategies import STRATEGIES


@dataclass(frozen=True)
class Spelled:
    """One pattern of a strategy, `k` being None where a threshold decides; `share` is of the unchanged model."""

    strategy: str
    k: int | None
    pattern: Pattern
    parameters: int
    share: float

    def as_record(self) -> dict[str, Any]:
        """Plain values for CSV and JSON."""
        return {**vars(self), "pattern": str(self.pattern)}


def check_names(names: Iterable[str], threshold: float | None) -> None:
    """Raise PatternError for a name that is no strategy's, or, with a `threshold`, of one that takes none."""
    for name in names:
        if name not in NAMES:
            raise PatternError(unknown("strategy", name, NAMES))
        if threshold is not None and name not in BY_THRESHOLD:
            raise PatternError(f"strategy {name!r} takes no threshold, {' and '.join(BY_THRESHOLD)} do; give k instead")


def patterns_by_strategy(
    counts: PartCounts,
    names: Sequence[str],
    measured: Measured | None,
    *,
    k: int | None = None,
    threshold: float | None = None,
    copies: int = 1,
    seed: int = 0,
) -> list[Spelled]:
    """The patterns of the strategies `names` for `k`, or for every k that there is, or by `threshold`.

    `measured` is needed for those that are measured on a model. Duplicated layers get `copies` copies, random ones are
    drawn with `seed`. Raises PatternError for a threshold, or a k, for which there is none.
    """
    check_names(names, threshold)
    found: list[Spelled] = []
    impossible: PatternError | None = None
    for name in names:
        more: dict[str, Any] = {"copies": copies} if name.startswith("duplicate") else {}
        more |= {"seed": seed} if name == "random" else {}
        first: Any = measured if name in MEASURED else counts.num_layers
        if threshold is not None:
            found.append(_counted(name, None, BY_THRESHOLD[name](first, threshold), counts))
            continue
        rule: Any = MEASURED.get(name) or STRATEGIES[name]
        for each in range(1, counts.num_layers + 1) if k is None else (k,):
            try:
                found.append(_counted(name, each, rule(first, each, **more), counts))
            except PatternError as error:
                impossible = error
    if not found and impossible is not None:
        raise impossible
    return found


def _counted(name: str, k: int | None, pattern: Pattern, counts: PartCounts) -> Spelled:
    parameters = pattern.parameters(counts)
    return Spelled(name, k, pattern, parameters, parameters / counts.total)
