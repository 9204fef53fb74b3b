"""What a search may want small besides a good score, and the limits that a user sets.

Knows: the costs by name, their units, and how a pattern's cost follows from its parts. Does not know: how parts are
counted or measured, scores, studies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from layersearch.counts import count
from layersearch.errors import WordsError
from layersearch.names import unknown
from layersearch.pattern import PartCounts, Pattern
from layersearch.search_space import SearchSpace

METRIC = "metric"  # the task's own score, always the first objective
SCORE = "score"  # what `--min-score` limits
LISTED = 4096  # patterns of a space that are looked at one by one
DROP = "drop"  # what `--max-drop` of `layersearch best` limits
BEST = 1  # the most of any score that is better large
TWICE = 2  # of the unchanged model's score: no candidate is twice as good
OVER = "over a limit"  # how the reason begins for which a proposal is not trained


@dataclass(frozen=True)
class Cost:
    """One cost: its title in tables, how many of the counted units make one shown, and whether it is measured.

    A `tied` cost counts weights that several blocks share once; the others count what is run.
    """

    title: str
    scale: int = 1
    measured: bool = False
    tied: bool = False

    def shown(self, value: float) -> str:
        """A value for people: whole numbers as they are, the others with as many digits as say something."""
        number = value / self.scale
        return f"{number:,.0f}" if self.scale == 1 or number >= 1000 else f"{number:.4g}"


COSTS: Mapping[str, Cost] = MappingProxyType(
    {
        "parameters": Cost("parameters", tied=True),
        "non-embedding": Cost("non-embedding parameters", tied=True),
        "macs": Cost("MACs (M)", 10**6),
        "memory": Cost("memory MB", 10**6, measured=True, tied=True),
        "latency": Cost("latency ms", 10**6, measured=True),
        "latency-32": Cost("latency-32 ms", 10**6, measured=True),
        "energy": Cost("energy mJ", 10**3, measured=True),
    }
)
"""Counted in parameters, multiply-accumulates of a sequence, bytes, nanoseconds a batch, microjoules a sequence."""

DEFAULT = (METRIC, "parameters")
_UNITS: Mapping[str, float] = MappingProxyType(
    {
        "": 1,
        "k": 10**3,
        "m": 10**6,
        "g": 10**9,
        "b": 10**9,
        "ns": 1,
        "us": 10**3,
        "ms": 10**6,
        "s": 10**9,
        "pt": 0.01,
        "pts": 0.01,
    }
)
_LIMIT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|[a-z]*)")
_ALLOWED = {  # by what is limited: the option, the units, and examples
    "parameters": ("--max-params", ("", "k", "m", "b", "g"), "60%, 66M or 66000000"),
    "macs": ("--max-macs", ("", "k", "m", "g"), "60%, 2.5G or 2500000000"),
    "latency": ("--max-latency", ("us", "ms", "s"), "60% or 8ms"),
    SCORE: ("--min-score", ("",), "0.8 or 98%"),
    DROP: ("--max-drop", ("", "pt", "pts"), "1pt, 0.01 or 2%"),
}


def parse_objectives(text: str) -> tuple[str, ...]:
    """The names in `metric,parameters,macs`. Raises WordsError for others than two or three that fit."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in (METRIC, *COSTS):
            raise WordsError(unknown("objective", name, (METRIC, *COSTS)))
    if len(set(names)) != len(names) or not 2 <= len(names) <= 3 or names[0] != METRIC:
        raise WordsError(
            f"--objectives {text} is not possible; allowed: {METRIC} first and one or two others, each once, such as "
            f"metric,parameters,macs; known: {', '.join((METRIC, *COSTS))}"
        )
    return names


@dataclass(frozen=True)
class Limit:
    """What a user sets: at most so much of a cost, or at least such a score; a number, or a share of the unchanged."""

    of: str
    number: float
    is_share: bool
    text: str

    @property
    def option(self) -> str:
        """The limit as it was typed."""
        return f"{_ALLOWED[self.of][0]} {self.text}"

    @property
    def stored(self) -> str:
        """The limit as a study keeps it, the same for every way to type it."""
        share = f"{100 * self.number:.12g}%"
        return f"{_ALLOWED[self.of][0]} {share if self.is_share else self._in_units}"

    @property
    def _in_units(self) -> str:
        """With the smallest unit that the option knows."""
        unit = min(_ALLOWED[self.of][1], key=_UNITS.__getitem__)
        return f"{self.number / _UNITS[unit]:.12g}{unit}"

    def bound(self, unchanged: float) -> float:
        """The limit in counted units, where the unchanged model has `unchanged` of them."""
        return self.number * unchanged if self.is_share else self.number


def parse_limit(of: str, text: str) -> Limit:
    """Read `60%`, `66M`, `8ms`, `1pt`. Raises WordsError for what is none, or is met by nothing.

    A point (`pt`) is 0.01 of a score. Only a drop may be 0.
    """
    option, units, examples = _ALLOWED[of]
    found = _LIMIT.fullmatch(text.strip().lower())
    if found is None or found[2] not in ("%", *units):
        raise WordsError(f"{option} {text} is not possible; allowed: a number or a share, such as {examples}")
    is_share = found[2] == "%"
    number = float(found[1]) * (0.01 if is_share else _UNITS[found[2]])
    if number <= 0 and of != DROP:
        raise WordsError(f"{option} {text} is not possible; allowed: more than 0, such as {examples}")
    return Limit(of, number, is_share, text.strip())


def off_by(off: Sequence[float]) -> str:
    """How far sums of parts are off, in words: median and largest relative error, and over how many patterns."""
    middle, most, number = off
    return f"off by {middle:.1%} (median of {count(round(number), 'pattern')}), {most:.1%} at most"


@dataclass(frozen=True)
class Costs:
    """What every pattern costs, before it is trained: the sum of its parts.

    `parts` are by the names of COSTS; `objectives` are the costs that the search wants small, in their order; `limits`
    are what a candidate must keep to. All of `objectives` and of the limits on costs are in `parts`.
    """

    parts: Mapping[str, PartCounts]
    objectives: tuple[str, ...] = DEFAULT[1:]
    limits: tuple[Limit, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether the search is for a good score and few parameters only."""
        return self.objectives == DEFAULT[1:] and not self.limits

    @property
    def num_layers(self) -> int:
        """Layers of the unchanged model."""
        return self.parts["parameters"].num_layers

    @cached_property
    def _whole(self) -> Mapping[str, int]:
        full = Pattern.full(self.num_layers)
        return {name: self.of(name, full) for name in self.parts}

    @property
    def min_score(self) -> Limit | None:
        """The limit on the score, if there is one."""
        return next((limit for limit in self.limits if limit.of == SCORE), None)

    def of(self, name: str, pattern: Pattern) -> int:
        """The cost `name` of a pattern, in counted units."""
        parts = self.parts[name]
        if COSTS[name].tied:
            return pattern.parameters(parts)
        return parts.fixed + sum(parts.of(replace(block, tied=False)) for block in pattern.blocks)

    def unchanged(self, name: str) -> int:
        """The cost of the unchanged model."""
        return self._whole[name]

    def values(self, pattern: Pattern) -> tuple[int, ...]:
        """The costs of a pattern that the search wants small, in the order of `objectives`."""
        return tuple(self.of(name, pattern) for name in self.objectives)

    def shares(self, pattern: Pattern) -> tuple[float, ...]:
        """`values` over those of the unchanged model."""
        return tuple(self.of(name, pattern) / self.unchanged(name) for name in self.objectives)

    def constraints(self, pattern: Pattern) -> dict[str, float]:
        """By cost, how far a pattern is over its limit, as a share of the unchanged model's; kept where not above 0."""
        bounded = [limit for limit in self.limits if limit.of != SCORE]
        return {
            limit.of: self.of(limit.of, pattern) / self.unchanged(limit.of) - self._share(limit) for limit in bounded
        }

    def allows(self, pattern: Pattern) -> bool:
        """Whether a pattern keeps every limit that can be told before training."""
        return all(over <= 0 for over in self.constraints(pattern).values())

    def why_not(self, pattern: Pattern) -> str | None:
        """Why a pattern is not worth a training, None where it keeps the limits."""
        if self.allows(pattern):
            return None
        over = self.constraints(pattern)
        broken = next(limit for limit in self.limits if over.get(limit.of, 0) > 0)
        cost = COSTS[broken.of]
        bound = broken.bound(self.unchanged(broken.of))
        value = self.of(broken.of, pattern)
        return f"{OVER}: {cost.shown(value)} {cost.title}, at most {cost.shown(bound)} ({broken.option})"

    def require_reachable(self, patterns: Sequence[Pattern]) -> None:
        """Raise WordsError, with the nearest value, if none of `patterns` keeps all limits on costs."""
        if any(self.allows(pattern) for pattern in patterns):
            return
        bounded = [limit for limit in self.limits if limit.of != SCORE]
        alone = [limit for limit in bounded if not self._any(limit, patterns)]
        limits = alone[:1] or bounded
        typed = " and ".join(limit.option for limit in limits) + ("" if alone else " together")
        nearest = min(patterns, key=lambda pattern: max(self.constraints(pattern)[limit.of] for limit in limits))
        has = ", and ".join(self._told(limit.of, nearest) for limit in limits)
        raise WordsError(
            f"no pattern of the space keeps {typed}: the nearest is `{nearest}` with {has}; allow that much"
        )

    def _told(self, name: str, pattern: Pattern) -> str:
        """A cost of a pattern beside the unchanged model's, in words."""
        cost, value, whole = COSTS[name], self.of(name, pattern), self.unchanged(name)
        return f"{cost.shown(value)} {cost.title}, {value / whole:.1%} of the unchanged model's {cost.shown(whole)}"

    def _any(self, limit: Limit, patterns: Sequence[Pattern]) -> bool:
        return any(self.constraints(pattern)[limit.of] <= 0 for pattern in patterns)

    def _share(self, limit: Limit) -> float:
        unchanged = self.unchanged(limit.of)
        return limit.bound(unchanged) / unchanged


def stored(objectives: Sequence[str], limits: Sequence[Limit]) -> dict[str, str]:
    """What a study keeps of them; nothing by default, so that older studies are the same."""
    found = {} if tuple(objectives) == DEFAULT else {"objectives": ",".join(objectives[1:])}
    return found | ({"limits": " ".join(limit.stored for limit in limits)} if limits else {})


def limits_in(stored: str) -> tuple[Limit, ...]:
    """The limits of a text that `stored` wrote; none in an empty one."""
    of = {option: name for name, (option, _, _) in _ALLOWED.items()}
    words = stored.split()
    return tuple(parse_limit(of[option], text) for option, text in zip(words[::2], words[1::2], strict=True))


def check_limits(costs: Costs, space: SearchSpace, metric: str, direction: str) -> None:
    """Raise WordsError for a limit that means nothing, or if no pattern keeps those on costs that are known."""
    if costs.min_score is not None and direction == "minimize":
        raise WordsError(f"{costs.min_score.option} asks for a large {metric}, which is better small: leave it out")
    least = costs.min_score
    if least is not None and (least.number >= TWICE if least.is_share else least.number > BEST):
        raise WordsError(
            f"{least.option} is more than a candidate can have: {metric} is {BEST} at most; allowed: a score up to "
            f"that such as 0.8, or a share of the unchanged model's below {TWICE:.0%} such as 98%"
        )
    known = replace(costs, limits=tuple(limit for limit in costs.limits if limit.of in costs.parts))
    if known.limits:
        known.require_reachable(reachable(space, costs.num_layers, known))


def reachable(space: SearchSpace, num_layers: int, costs: Costs) -> tuple[Pattern, ...]:
    """Patterns that tell how little a candidate can cost: all of a small space.

    Of a large one its start points, and for each limit what a walk down from the cheapest of them meets, from neighbour
    to neighbour.
    """
    if space.size(num_layers) <= LISTED:
        return tuple(space.patterns(num_layers))
    found = dict.fromkeys(space.start_points(num_layers))
    for limit in costs.limits:
        if limit.of != SCORE:
            found |= dict.fromkeys(_walk_down(space, num_layers, costs, limit.of, tuple(found)))
    return tuple(found)


def _walk_down(
    space: SearchSpace, num_layers: int, costs: Costs, name: str, starts: Sequence[Pattern]
) -> Iterator[Pattern]:
    def cost(pattern: Pattern) -> int:
        return costs.of(name, pattern)

    here, after = None, min(starts, key=cost)
    while here is None or cost(after) < cost(here):
        here = after
        yield here
        after = min(space.neighbours(here, num_layers), key=cost, default=here)
