"""Searches that go by an order of their own in place of a sampler: one layer after another, or every pattern.

Knows: rows, a search space, which pattern is next and whether it has to wait for others. Does not know: Optuna,
training, how a pattern is asked for. All is read from the rows, so a search goes on from its study alone, with any
number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from layersearch.errors import WordsError
from layersearch.pattern import Pattern
from layersearch.search.samplers import EXHAUSTIVE, GREEDY
from layersearch.search.trials import Direction, Row
from layersearch.search_space import SearchSpace

MOST = 4096  # patterns of a space that is tried as a whole: all of twelve layers

Order = Callable[[Sequence[Row]], Pattern | None]
"""The pattern to try next, after these rows; None while others have to be scored first, and at the end."""


def greedy(space: SearchSpace, num_layers: int, direction: Direction) -> Order:
    """Drop the layer (or half) whose removal scores best, score all removals from there anew, and so on.

    Greedy layer pruning (Peer et al., arXiv 2105.14839; SLEB, arXiv 2402.09025). Of equal scores the smaller candidate
    is taken. In a space that mixes layers each removal is tried with the last layer read and with the mix.
    """
    return partial(_greedy, space=space, num_layers=num_layers, sign=1.0 if direction == "maximize" else -1.0)


def exhaustive(space: SearchSpace, num_layers: int, _direction: Direction) -> Order:
    """Every pattern of the space, in its order."""
    listed = {str(pattern): pattern for pattern in space.patterns(num_layers)}

    def order(rows: Sequence[Row]) -> Pattern | None:
        taken = {row.pattern for row in rows}
        return next((pattern for text, pattern in listed.items() if text not in taken), None)

    return order


ORDERS: Mapping[str, Callable[[SearchSpace, int, Direction], Order]] = MappingProxyType(
    {GREEDY: greedy, EXHAUSTIVE: exhaustive}
)


def order_of(sampler: str, space: SearchSpace | None, num_layers: int, direction: Direction) -> Order | None:
    """The order that `sampler` names, None for a sampler or where nothing is proposed."""
    return ORDERS[sampler](space, num_layers, direction) if space and sampler in ORDERS else None


def check_order(sampler: str, space: SearchSpace, num_layers: int) -> None:
    """Raise WordsError for a space that the order called `sampler` cannot go through."""
    size = space.size(num_layers)
    if sampler == EXHAUSTIVE and size > MOST:
        raise WordsError(
            f"--sampler {EXHAUSTIVE} tries every pattern and the space has {size:,}; it goes with {MOST:,} at most: "
            "choose a smaller space, or another sampler"
        )
    if sampler == GREEDY and not removals(Pattern.full(num_layers), space, num_layers):
        raise WordsError(
            f"--sampler {GREEDY} drops one layer after another, and the space has no pattern with one layer less: give "
            "a space of `choices` with 'drop' or halves"
        )


def trials_in(sampler: str, space: SearchSpace, num_layers: int) -> int | None:
    """How many trials the order called `sampler` takes at most, the unchanged model included; None for a sampler."""
    if sampler == EXHAUSTIVE:
        return space.size(num_layers)
    if sampler != GREEDY:
        return None
    total, step = 1, removals(Pattern.full(num_layers), space, num_layers)
    while step:  # halves before layers, and of an encoder and a decoder the one that has more left: the longest way
        deepest = max(pattern.depth for pattern in step)
        ways = [pattern for pattern in step if pattern.depth == deepest]
        following = (removals(pattern, space, num_layers) for pattern in (ways[0], ways[-1]))
        total, step = total + len(step), max(following, key=len)
    return total


def removals(pattern: Pattern, space: SearchSpace, num_layers: int) -> list[Pattern]:
    """What is left of `pattern` when one layer loses as little as the space lets it, lowest layer first.

    With every read-out that the space has.
    """
    most: dict[int, int] = {}
    found: list[tuple[int, Pattern]] = []
    for other in space.neighbours(pattern, num_layers):
        changed = {*pattern.blocks} - {*other.blocks}
        if changed and _halves(other) < _halves(pattern):
            layer = next(iter(changed)).layer
            most[layer] = max(most.get(layer, 0), _halves(other))
            alike = (other, *space.read_otherwise(other))
            found += [(layer, one) for one in alike if space.params_of(one, num_layers) is not None]
    return [other for layer, other in found if _halves(other) == most[layer]]


def _greedy(rows: Sequence[Row], space: SearchSpace, num_layers: int, sign: float) -> Pattern | None:
    scored = {row.pattern: row for row in rows if row.done}
    out = {row.pattern for row in rows if row.state in ("WAITING", "RUNNING")}
    failed = {row.pattern for row in rows if row.state == "PRUNED" or (row.state == "FAIL" and not row.lost)}
    step = removals(Pattern.full(num_layers), space, num_layers)
    while step:
        untried = [pattern for pattern in step if str(pattern) not in {*scored, *out, *failed}]
        done = [scored[str(pattern)] for pattern in step if str(pattern) in scored]
        if untried or not done or any(str(pattern) in out for pattern in step):
            return untried[0] if untried else None
        best = max(done, key=lambda row: (sign * (row.score or 0.0), -(row.parameters or 0)))
        step = removals(Pattern.parse(best.pattern), space, num_layers)
    return None


def _halves(pattern: Pattern) -> int:
    return sum(2 if block.halves == "both" else 1 for block in pattern.blocks)
