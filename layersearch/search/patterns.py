"""What strategies spell for a model, with parameters: for one k, for all of them, or by a threshold.

Knows: strategies by name, measured ones too, counts of parameters, which patterns a family has. Does not know: how
anything is measured, search spaces, how it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from layersearch.errors import PatternError
from layersearch.measured import BY_THRESHOLD, MEASURED, NAMES, Measured
from layersearch.models.families import check_layers
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


def check_names(names: Iterable[str], threshold: float | None, k: int | None = None) -> None:
    """Raise PatternError for a name that is no strategy's, of one that takes no `threshold`, and for that beside k."""
    for name in names:
        if name not in NAMES:
            raise PatternError(unknown("strategy", name, NAMES))
        if threshold is not None and name not in BY_THRESHOLD:
            raise PatternError(f"strategy {name!r} takes no threshold, {' and '.join(BY_THRESHOLD)} do; give k instead")
    if k is not None and threshold is not None:
        raise PatternError(f"--k {k} and --threshold {threshold:g} both say which layers go; give one of them")


def patterns_by_strategy(
    counts: PartCounts,
    model_type: str,
    names: Sequence[str],
    measured: Measured | None,
    say: Callable[[str], None] | None = None,
    *,
    k: int | None = None,
    threshold: float | None = None,
    copies: int = 1,
    seed: int = 0,
) -> list[Spelled]:
    """The patterns of the strategies `names` for `k`, or for every k that there is, or by `threshold`.

    Those that a model of `model_type` cannot have are left out: halves or tied copies that its family does not know,
    and a stack of two without a layer. `measured` is needed for strategies that are measured on a model. Duplicated
    layers get `copies` copies, random ones are drawn with `seed`. `say` is told which strategies have none, and why.
    Raises PatternError where none is left.
    """
    check_names(names, threshold)
    found: list[Spelled] = []
    impossible: dict[str, PatternError] = {}
    for name in names:
        more: dict[str, Any] = {"copies": copies} if name.startswith("duplicate") else {}
        more |= {"seed": seed} if name == "random" else {}
        first: Any = measured if name in MEASURED else counts.num_layers
        rule: Any = BY_THRESHOLD.get(name) if threshold is not None else MEASURED.get(name) or STRATEGIES[name]
        numbers = range(1, counts.num_layers + 1) if k is None else (k,)
        for each in numbers if threshold is None else (None,):
            try:
                pattern = rule(first, threshold if each is None else each, **more)
                _check(pattern, counts, model_type)
                found.append(_counted(name, each, pattern, counts))
            except PatternError as error:
                impossible.setdefault(name, error)
    if not found and impossible:
        raise next(iter(impossible.values()))
    for name in impossible:
        if say is not None and all(one.strategy != name for one in found):
            say(f"no pattern of {name}: {impossible[name]}")
    return found


def _check(pattern: Pattern, counts: PartCounts, model_type: str) -> None:
    """Raise PatternError for a pattern that no candidate can have."""
    check_layers(pattern, model_type)
    if counts.depths:
        pattern.split(counts.depths)


def _counted(name: str, k: int | None, pattern: Pattern, counts: PartCounts) -> Spelled:
    parameters = pattern.parameters(counts)
    return Spelled(name, k, pattern, parameters, parameters / counts.total)
