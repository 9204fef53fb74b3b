"""A search space: which patterns may be proposed, and how a trial's parameters spell one.

Knows: the two kinds of spaces (a free choice for each layer; a list of strategies), their size, order, start points and
stable text. Does not know: files, Optuna (any object with `suggest_categorical` will do), models, scores or the study,
how strategies are measured (they are told by `knowing`).

The unchanged model belongs to every space, whatever the limits say: it is the baseline of every figure.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from layersearch.choices import Choice, nth, read, sizes_of, spelled, ways
from layersearch.counts import count
from layersearch.errors import SpaceError
from layersearch.measured import MEASURED, NAMES, patterns_of
from layersearch.names import unknown
from layersearch.pattern import Pattern, Readout
from layersearch.strategies import Known

_BITS: dict[Choice, tuple[str, str]] = {  # attention and FFN, where halves are chosen one by one
    "keep": ("keep", "keep"),
    "drop": ("drop", "drop"),
    "attention": ("keep", "drop"),
    "ffn": ("drop", "keep"),
}


class Suggests(Protocol):
    """The one method of an Optuna trial that a space uses."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any: ...


class SearchSpace(BaseModel):
    """The patterns that a search may propose.

    Either `choices` is given: every layer independently takes one of them, and the number of blocks lies between
    `min_layers` and `max_layers`; `start` names the strategies whose patterns are tried first; with `separate_halves`
    a sampler sees two parameters a layer, one for each half. Or `strategies` is given: their patterns for every
    possible k between `min_k` and `max_k`, or for the k that keep the shares `depths` of the layers (rounded down).
    Duplicated layers get `copies` copies. Strategies that are measured on a model spell nothing until `knowing`. Every
    pattern comes with each of `readout`: its head reads its last layer, or a mix of its layers.
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
    depths: tuple[float, ...] = ()
    copies: int = Field(default=1, ge=1, le=9)
    separate_halves: bool = False
    readout: tuple[Readout, ...] = ("last",)
    _known: tuple[tuple[str, tuple[Pattern, ...]], ...] | None = PrivateAttr(default=None)  # set by `knowing`
    _only: dict[Pattern, None] | None = PrivateAttr(default=None)  # set by `within`, ordered

    @field_validator("choices", "start", "strategies", "depths", "readout", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        """TOML knows lists only."""
        return tuple(value) if isinstance(value, list) else value

    @field_validator("choices")
    @classmethod
    def _in_one_order(cls, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
        """Two files with the same choices are the same space, for Optuna too, which compares them in order."""
        return tuple(choice for choice in get_args(Choice) if choice in choices)

    @field_validator("readout")
    @classmethod
    def _reads_the_last_layer_first(cls, readout: tuple[Readout, ...]) -> tuple[Readout, ...]:
        if "last" not in readout:
            raise ValueError("it must hold 'last' (the unchanged model is measured first)")
        return tuple(one for one in get_args(Readout) if one in readout)

    @field_validator("start", "strategies")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in NAMES:
                raise ValueError(unknown("strategy", name, NAMES))
        return tuple(dict.fromkeys(names))

    @field_validator("depths")
    @classmethod
    def _are_shares(cls, depths: tuple[float, ...]) -> tuple[float, ...]:
        for depth in depths:
            if not 0 < depth < 1:
                raise ValueError(f"{depth:g} is no share of the layers to keep: above 0 and below 1")
        return tuple(sorted(depths))

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
        if self.choices and ("keep" not in self.choices or len(self.choices) + len(self.readout) < 3):
            raise ValueError("`choices` must hold 'keep' (the unchanged model is measured first) and at least one more")
        if self.depths and {"min_k", "max_k"} & self.model_fields_set:
            raise ValueError("`depths` says which k there are: leave out `min_k` and `max_k`")
        if self.separate_halves and set(self.choices) != set(_BITS):
            raise ValueError(f"`separate_halves` needs exactly the choices {', '.join(_BITS)}")
        if "copies" in self.model_fields_set and not any("duplicate" in name for name in self._names):
            raise ValueError("`copies` says nothing in a space that duplicates no layer; remove it")
        for low, high in (("min_layers", "max_layers"), ("min_k", "max_k")):
            if getattr(self, high) is not None and getattr(self, low) > getattr(self, high):
                raise ValueError(f"`{low}` is {getattr(self, low)} and `{high}` is {getattr(self, high)}: nothing fits")
        return self

    def check(self, num_layers: int) -> None:
        """Raise SpaceError if a model of `num_layers` layers leaves nothing to search but the unchanged model."""
        if self.size(num_layers) < 2 and not self.unmeasured:
            key, value = ("min_k", self.min_k) if self.strategies else ("min_layers", self.min_layers)
            raise SpaceError(
                f"the search space holds nothing but the unchanged model of {count(num_layers, 'layer')}: "
                f"`{key}` is {value}; widen {self.model_dump_json(exclude={'about'}, exclude_defaults=True)}"
            )

    def has_halves(self, num_layers: int) -> bool:
        """Whether some pattern has half layers."""
        listed = self._listed(num_layers)
        if listed is None:
            return not {"attention", "ffn"}.isdisjoint(self.choices)
        return not all(pattern.is_whole for pattern in listed)

    def has_ties(self, num_layers: int) -> bool:
        """Whether some pattern has tied copies."""
        listed = self._listed(num_layers)
        return "duplicate-tied" in self.choices if listed is None else any(pattern.owners() for pattern in listed)

    @property
    def mixes(self) -> bool:
        """Whether some pattern mixes its layers."""
        return "mix" in self.readout

    @property
    def _names(self) -> tuple[str, ...]:
        """All that the space names: choices and strategies."""
        return (*self.choices, *self.start, *self.strategies)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The strategies that are measured on a model, as long as nobody has said what they spell."""
        return tuple(name for name in self._names if name in MEASURED) if self._known is None else ()

    @property
    def known(self) -> Known:
        """What measured strategies spell, as `knowing` was told."""
        return dict(self._known or ())

    def knowing(self, known: Known) -> SearchSpace:
        """This space with what measured strategies spell; its text stays the same. `known` may hold more."""
        space = self.model_copy()
        space._known = tuple((name, tuple(known[name])) for name in known)
        return space

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
        blocks = spelled([self._chosen(trial, layer) for layer in range(num_layers)], self.copies)
        readout: Readout = trial.suggest_categorical("readout", self.readout) if self.mixes else "last"
        return Pattern(blocks, readout) if blocks and self._fits(Pattern(blocks, readout), num_layers) else None

    def _chosen(self, trial: Suggests, layer: int) -> Choice:
        if not self.separate_halves:
            choice: Choice = trial.suggest_categorical(f"layer_{layer}", self.choices)
            return choice
        bits = tuple(trial.suggest_categorical(f"layer_{layer}_{half}", ("keep", "drop")) for half in _HALF_NAMES)
        return next(choice for choice, meant in _BITS.items() if meant == bits)

    def params_of(self, pattern: Pattern, num_layers: int) -> dict[str, str] | None:
        """The parameters that make `suggest` spell `pattern`, or None where it lies outside the space."""
        pattern.check(num_layers)
        if self.strategies:
            return {"pattern": str(pattern)} if pattern in (self._listed(num_layers) or ()) else None
        chosen = read(pattern, num_layers, self.copies)
        if chosen is None or not set(chosen) <= set(self.choices) or not self._fits(pattern, num_layers):
            return None
        if pattern.readout not in self.readout:
            return None
        read_out: dict[str, str] = {"readout": pattern.readout} if self.mixes else {}
        if not self.separate_halves:
            return {**{f"layer_{layer}": choice for layer, choice in enumerate(chosen)}, **read_out}
        halves = {
            f"layer_{layer}_{half}": bit
            for layer, choice in enumerate(chosen)
            for half, bit in zip(_HALF_NAMES, _BITS[choice], strict=True)
        }
        return {**halves, **read_out}

    def start_points(self, num_layers: int) -> tuple[Pattern, ...]:
        """The unchanged model, then the strategies' patterns that lie inside, small k of every strategy first."""
        if self.strategies:
            return tuple(self.patterns(num_layers))
        found = self._read(self._spelled(self.start, num_layers, tuple(range(1, num_layers + 1))))
        return tuple(pattern for pattern in found if self.params_of(pattern, num_layers) is not None)

    def idle(self, num_layers: int) -> tuple[str, ...]:
        """The strategies that the space names and that give none of its patterns for so many layers."""

        def works(name: str) -> bool:
            found = self._spelled((name,), num_layers, self._ks(num_layers))[1:]
            return any(self.params_of(pattern, num_layers) is not None for pattern in found)

        return tuple(name for name in self.start or self.strategies if name not in self.unmeasured and not works(name))

    def size(self, num_layers: int) -> int:
        """How many distinct patterns there are, the unchanged model included; counted, not enumerated."""
        listed = self._listed(num_layers)
        if listed is not None:
            return len(listed)
        low, high = self._limits(num_layers)
        return self._ways(num_layers) + (not low <= num_layers <= high)

    def patterns(self, num_layers: int) -> Iterator[Pattern]:
        """All patterns, lazily and always in the same order, the unchanged model first."""
        listed = self._listed(num_layers)
        if listed is not None:
            yield from listed
            return
        low, high = self._limits(num_layers)
        if not low <= num_layers <= high:
            yield Pattern.full(num_layers)
        for index in range(self._ways(num_layers)):
            yield self._nth(num_layers, index)

    def neighbours(self, pattern: Pattern, num_layers: int) -> Iterator[Pattern]:
        """The patterns of the space that differ from `pattern` in what one layer becomes, or in what the head reads."""
        if self.strategies:
            return
        yield from (other for other in self.read_otherwise(pattern) if self._fits(other, num_layers))
        chosen = read(pattern, num_layers, self.copies) or []
        for layer, before in enumerate(chosen):
            for choice in self.choices:
                blocks = spelled([*chosen[:layer], choice, *chosen[layer + 1 :]], self.copies)
                if choice != before and blocks and self._fits(Pattern(blocks, pattern.readout), num_layers):
                    yield Pattern(blocks, pattern.readout)

    def read_otherwise(self, pattern: Pattern) -> tuple[Pattern, ...]:
        """The same layers with the other read-outs that the space has."""
        return tuple(replace(pattern, readout=other) for other in self.readout if other != pattern.readout)

    def sample(self, num_layers: int, rng: random.Random) -> Pattern:
        """One pattern, every one as likely as any other."""
        listed = self._listed(num_layers)
        if listed is not None:
            return rng.choice(listed)
        index = rng.randrange(self.size(num_layers))
        if index == self._ways(num_layers):
            return Pattern.full(num_layers)
        return self._nth(num_layers, index)

    def canonical(self) -> str:
        """Stable text of what decides the patterns and their start; equal for files that differ in name or wording."""
        return json.dumps(self.model_dump(exclude={"about"}, exclude_defaults=True), sort_keys=True)

    def _listed(self, num_layers: int) -> tuple[Pattern, ...] | None:
        """The patterns that are given one by one, the unchanged model first; None where choices are free."""
        if not self.strategies:
            return None if self._only is None else tuple(self._only)
        found = self._read(self._spelled(self.strategies, num_layers, self._ks(num_layers)))
        return found if self._only is None else tuple(pattern for pattern in found if pattern in self._only)

    def _spelled(self, names: tuple[str, ...], num_layers: int, ks: tuple[int, ...]) -> tuple[Pattern, ...]:
        return patterns_of(names, num_layers, ks, self._known or (), self.copies)

    def _read(self, patterns: tuple[Pattern, ...]) -> tuple[Pattern, ...]:
        """Each of `patterns` with all read-outs, side by side."""
        return tuple(replace(pattern, readout=readout) for pattern in patterns for readout in self.readout)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return sizes_of(self.choices, self.copies)

    def _ways(self, num_layers: int) -> int:
        return len(self.readout) * ways(self._sizes, num_layers, *self._limits(num_layers))

    def _nth(self, num_layers: int, index: int) -> Pattern:
        index, readout = divmod(index, len(self.readout))
        places = nth(self._sizes, num_layers, *self._limits(num_layers), index)
        return Pattern(spelled([self.choices[place] for place in places], self.copies), self.readout[readout])

    def _fits(self, pattern: Pattern, num_layers: int) -> bool:
        if self._only is not None:
            return pattern in self._only
        low, high = self._limits(num_layers)
        return low <= pattern.depth <= high or pattern == Pattern.full(num_layers)

    def _limits(self, num_layers: int) -> tuple[int, int]:
        most = (1 + self.copies) * num_layers
        return self.min_layers, most if self.max_layers is None else self.max_layers

    def _ks(self, num_layers: int) -> tuple[int, ...]:
        if self.depths:
            return tuple(sorted({num_layers - int(num_layers * depth) for depth in self.depths}))
        return tuple(range(self.min_k, (num_layers if self.max_k is None else self.max_k) + 1))


_OF_CHOICES = {"min_layers", "max_layers", "start", "separate_halves"}
_OF_STRATEGIES = {"min_k", "max_k", "depths"}
_HALF_NAMES = ("attention", "ffn")
