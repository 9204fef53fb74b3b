"""A search space: a TOML file that says which patterns may be proposed, and how a trial's parameters spell one.

Knows: the two kinds of spaces (a free choice for each layer; a list of strategies), their size, order, start points and
stable text. Does not know: Optuna (any object with `suggest_categorical` will do), models, scores or the study.

The unchanged model belongs to every space, whatever the limits say: it is the baseline of every figure.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from layersearch.errors import SpaceError
from layersearch.names import unknown
from layersearch.pattern import Block, Halves, Pattern
from layersearch.strategies import STRATEGIES, possible, spell

_SHIPPED = Path(__file__).parent / "search_spaces"

Choice = Literal["keep", "drop", "attention", "ffn", "duplicate"]

_HALVES: dict[Choice, tuple[Halves, ...]] = {
    "keep": ("both",),
    "drop": (),
    "attention": ("attention",),
    "ffn": ("ffn",),
    "duplicate": ("both", "both"),
}
_CHOICE_OF_HALVES = {halves: choice for choice, halves in _HALVES.items()}


class Suggests(Protocol):
    """The one method of an Optuna trial that a space uses."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any: ...


class SearchSpace(BaseModel):
    """The patterns that a search may propose.

    Either `choices` is given: every layer independently takes one of them, and the number of blocks lies between
    `min_layers` and `max_layers`; `start` names the strategies whose patterns are tried first. Or `strategies` is
    given: their patterns for every possible k between `min_k` and `max_k`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    about: str = ""
    choices: tuple[Choice, ...] = ()
    min_layers: int = Field(default=1, ge=1)
    max_layers: int | None = Field(default=None, ge=1)
    start: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    min_k: int = Field(default=1, ge=1)
    max_k: int | None = Field(default=None, ge=1)
    _only: dict[Pattern, None] | None = PrivateAttr(default=None)  # set by `within`, ordered

    @field_validator("choices", "start", "strategies", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        """TOML knows lists only."""
        return tuple(value) if isinstance(value, list) else value

    @field_validator("choices")
    @classmethod
    def _in_one_order(cls, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
        """Two files with the same choices are the same space, for Optuna too, which compares them in order."""
        return tuple(choice for choice in get_args(Choice) if choice in choices)

    @field_validator("start", "strategies")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in STRATEGIES:
                raise ValueError(unknown("strategy", name, STRATEGIES))
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _is_one_kind(self) -> SearchSpace:
        if bool(self.choices) == bool(self.strategies):
            raise ValueError(
                "give either `choices` (what each layer may become) or `strategies`, not both and not none"
            )
        foreign = _OF_CHOICES if self.strategies else _OF_STRATEGIES
        kind = "strategies" if self.strategies else "choices"
        for key in foreign & self.model_fields_set:
            raise ValueError(f"`{key}` says nothing in a space of `{kind}`; remove it")
        if self.choices and ("keep" not in self.choices or len(self.choices) < 2):
            raise ValueError("`choices` must hold 'keep' (the unchanged model is measured first) and at least one more")
        for low, high in (("min_layers", "max_layers"), ("min_k", "max_k")):
            if getattr(self, high) is not None and getattr(self, low) > getattr(self, high):
                raise ValueError(f"`{low}` is {getattr(self, low)} and `{high}` is {getattr(self, high)}: nothing fits")
        return self

    def check(self, num_layers: int) -> None:
        """Raise SpaceError if a model of `num_layers` layers leaves nothing to search but the unchanged model."""
        if self.size(num_layers) < 2:
            key, value = ("min_k", self.min_k) if self.strategies else ("min_layers", self.min_layers)
            raise SpaceError(
                f"the search space holds nothing but the unchanged model of {num_layers} layers: `{key}` is {value}; "
                f"widen {self.model_dump_json(exclude={'about'}, exclude_defaults=True)}"
            )

    def has_halves(self, num_layers: int) -> bool:
        """Whether some pattern has half layers."""
        listed = self._listed(num_layers)
        if listed is None:
            return not {"attention", "ffn"}.isdisjoint(self.choices)
        return not all(pattern.is_whole for pattern in listed)

    def within(self, patterns: Iterable[Pattern], num_layers: int) -> SearchSpace:
        """This space as far as `patterns` reach, which may leave out the unchanged model; its text stays the same."""
        full = Pattern.full(num_layers)
        inside = sorted((p for p in patterns if self.params_of(p, num_layers)), key=lambda p: (p != full, p))
        space = self.model_copy()
        space._only = dict.fromkeys(inside)
        return space

    def suggest(self, trial: Suggests, num_layers: int) -> Pattern | None:
        """Ask the trial for its parameters and spell the pattern; None where it lies outside, e.g. drops everything."""
        if self.strategies:
            texts = [str(pattern) for pattern in self.patterns(num_layers)]
            return Pattern.parse(trial.suggest_categorical("pattern", texts))
        blocks = _blocks([trial.suggest_categorical(f"layer_{layer}", self.choices) for layer in range(num_layers)])
        return Pattern(blocks) if blocks and self._fits(Pattern(blocks), num_layers) else None

    def params_of(self, pattern: Pattern, num_layers: int) -> dict[str, str] | None:
        """The parameters that make `suggest` spell `pattern`, or None where it lies outside the space."""
        pattern.check(num_layers)
        if self.strategies:
            return {"pattern": str(pattern)} if pattern in (self._listed(num_layers) or ()) else None
        halves: list[tuple[Halves, ...]] = [
            tuple(block.halves for block in pattern.blocks if block.layer == layer) for layer in range(num_layers)
        ]
        chosen = [_CHOICE_OF_HALVES.get(kept) for kept in halves]
        layers = [block.layer for block in pattern.blocks]
        if layers != sorted(layers) or not set(chosen) <= set(self.choices) or not self._fits(pattern, num_layers):
            return None
        return {f"layer_{layer}": str(choice) for layer, choice in enumerate(chosen)}

    def start_points(self, num_layers: int) -> tuple[Pattern, ...]:
        """The unchanged model, then the strategies' patterns that lie inside, small k of every strategy first."""
        if self.strategies:
            return tuple(self.patterns(num_layers))
        found = _spelled(self.start, num_layers, range(1, num_layers + 1))
        return tuple(pattern for pattern in found if self.params_of(pattern, num_layers) is not None)

    def idle(self, num_layers: int) -> tuple[str, ...]:
        """The strategies that the space names and that give none of its patterns for so many layers."""

        def works(name: str) -> bool:
            spelled = _spelled((name,), num_layers, self._ks(num_layers))[1:]
            return any(self.params_of(pattern, num_layers) is not None for pattern in spelled)

        return tuple(name for name in self.start or self.strategies if not works(name))

    def size(self, num_layers: int) -> int:
        """How many distinct patterns there are, the unchanged model included; counted, not enumerated."""
        listed = self._listed(num_layers)
        if listed is not None:
            return len(listed)
        low, high = self._limits(num_layers)
        return _ways(self.choices, num_layers, low, high) + (not low <= num_layers <= high)

    def patterns(self, num_layers: int) -> Iterator[Pattern]:
        """All patterns, lazily and always in the same order, the unchanged model first."""
        listed = self._listed(num_layers)
        if listed is not None:
            yield from listed
            return
        low, high = self._limits(num_layers)
        if not low <= num_layers <= high:
            yield Pattern.full(num_layers)
        for index in range(_ways(self.choices, num_layers, low, high)):
            yield Pattern(_blocks(_choices_at(self.choices, num_layers, low, high, index)))

    def neighbours(self, pattern: Pattern, num_layers: int) -> Iterator[Pattern]:
        """The patterns of the space that differ from `pattern` in what one layer becomes."""
        if self.strategies:
            return
        chosen = list((self.params_of(pattern, num_layers) or {}).values())
        for layer, before in enumerate(chosen):
            for choice in self.choices:
                blocks = _blocks([*chosen[:layer], choice, *chosen[layer + 1 :]])  # type: ignore[list-item]
                if choice != before and blocks and self._fits(Pattern(blocks), num_layers):
                    yield Pattern(blocks)

    def sample(self, num_layers: int, rng: random.Random) -> Pattern:
        """One pattern, every one as likely as any other."""
        listed = self._listed(num_layers)
        if listed is not None:
            return rng.choice(listed)
        low, high = self._limits(num_layers)
        index = rng.randrange(self.size(num_layers))
        if index == _ways(self.choices, num_layers, low, high):
            return Pattern.full(num_layers)
        return Pattern(_blocks(_choices_at(self.choices, num_layers, low, high, index)))

    def canonical(self) -> str:
        """Stable text of what decides the patterns and their start; equal for files that differ in name or wording."""
        return json.dumps(self.model_dump(exclude={"about"}, exclude_defaults=True), sort_keys=True)

    def _listed(self, num_layers: int) -> tuple[Pattern, ...] | None:
        """The patterns that are given one by one, the unchanged model first; None where choices are free."""
        if not self.strategies:
            return None if self._only is None else tuple(self._only)
        spelled = _spelled(self.strategies, num_layers, self._ks(num_layers))
        return tuple(pattern for pattern in spelled if self._only is None or pattern in self._only)

    def _fits(self, pattern: Pattern, num_layers: int) -> bool:
        if self._only is not None:
            return pattern in self._only
        low, high = self._limits(num_layers)
        return low <= pattern.depth <= high or pattern == Pattern.full(num_layers)

    def _limits(self, num_layers: int) -> tuple[int, int]:
        return self.min_layers, 2 * num_layers if self.max_layers is None else self.max_layers

    def _ks(self, num_layers: int) -> range:
        return range(self.min_k, (num_layers if self.max_k is None else self.max_k) + 1)


_OF_CHOICES = {"min_layers", "max_layers", "start"}
_OF_STRATEGIES = {"min_k", "max_k"}


def load(name_or_path: str) -> SearchSpace:
    """A shipped space by its name, or the space in a TOML file by its path. Raises SpaceError."""
    try:
        return SearchSpace.model_validate(tomllib.loads(_find(name_or_path).read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SpaceError(f"search space {name_or_path} cannot be read as TOML: {error}") from error
    except ValidationError as error:
        raise SpaceError(f"search space {name_or_path}: {_explain(error.errors()[0])}") from error


def shipped() -> tuple[str, ...]:
    """The names of the spaces that come with the program."""
    return tuple(sorted(file.stem for file in _SHIPPED.glob("*.toml")))


def _find(name_or_path: str) -> Path:
    if name_or_path in shipped():
        return _SHIPPED / f"{name_or_path}.toml"
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise SpaceError(f"there is no search space file {name_or_path}; shipped spaces: {', '.join(shipped())}")
    raise SpaceError(f"{unknown('search space', name_or_path, shipped())}, or the path of a TOML file")


def _explain(error: ErrorDetails) -> str:
    """One line for pydantic's finding, with the key it is about."""
    key = str(error["loc"][0]) if error["loc"] else ""
    given = str(error["input"])
    if error["type"] == "extra_forbidden":
        return unknown("key", key, SearchSpace.model_fields)
    if error["type"] == "literal_error":
        return f"`{key}`: {unknown('choice', given, get_args(Choice))}"
    if error["type"] == "value_error":
        return f"{f'`{key}`: ' if key else ''}{error['msg'].removeprefix('Value error, ')}"
    return f"`{key}`: {error['msg'].replace('valid tuple', 'list').removeprefix('Input ')}, got {given}"


@cache
def _spelled(names: tuple[str, ...], num_layers: int, ks: range) -> tuple[Pattern, ...]:
    """The unchanged model and the strategies' patterns by rising k, each once."""
    exists = {name: possible(name, num_layers) for name in names}
    found = [Pattern.full(num_layers)]
    found += [spell(name, num_layers, k) for k in ks for name in names if k in exists[name]]
    return tuple(dict.fromkeys(found))


def _blocks(chosen: Sequence[Choice]) -> tuple[Block, ...]:
    return tuple(Block(layer, halves) for layer, choice in enumerate(chosen) for halves in _HALVES[choice])


@cache
def _ways(choices: tuple[Choice, ...], num_layers: int, low: int, high: int) -> int:
    """In how many ways `num_layers` layers can take one choice each with `low` to `high` blocks together."""
    if high < 0 or low > 2 * num_layers:
        return 0
    if num_layers == 0:
        return int(low <= 0)
    low = max(low, 0)
    used = [len(_HALVES[choice]) for choice in choices]
    return sum(_ways(choices, num_layers - 1, low - blocks, high - blocks) for blocks in used)


def _choices_at(choices: tuple[Choice, ...], num_layers: int, low: int, high: int, index: int) -> list[Choice]:
    """The `index`-th of the `_ways` in lexicographic order of `choices`, without walking through those before it."""
    chosen: list[Choice] = []
    for left in range(num_layers - 1, -1, -1):
        for choice in choices:
            blocks = len(_HALVES[choice])
            ways = _ways(choices, left, low - blocks, high - blocks)
            if index < ways:
                break
            index -= ways
        chosen.append(choice)
        low, high = low - blocks, high - blocks
    return chosen
