"""A search space of a model with an encoder and a decoder: only patterns that keep a layer of each.

Knows: how many of a space's patterns do not fit two stacks, and how to leave them out. Does not know: what a space is
made of, models.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from pydantic import PrivateAttr

from layersearch.pattern import Pattern
from layersearch.search_space import SearchSpace


class StackedSpace(SearchSpace):
    """A space without the patterns that do not fit stacks of `depths` layers; its text is that of the whole space."""

    _whole: SearchSpace = PrivateAttr()
    _depths: tuple[int, ...] = PrivateAttr()

    @classmethod
    def of(cls, whole: SearchSpace, depths: tuple[int, ...]) -> StackedSpace:
        """`whole` as far as it fits."""
        space = cls.model_construct(_fields_set=set(whole.model_fields_set), **dict(whole))
        space._whole, space._depths = whole, depths
        return space

    def size(self, num_layers: int) -> int:
        listed = self._listed(num_layers)
        if listed is not None:
            return len(listed)
        return self._whole.size(num_layers) - ("drop" in self.choices) * sum(map(self._alone, self._depths))

    def patterns(self, num_layers: int) -> Iterator[Pattern]:
        return (pattern for pattern in super().patterns(num_layers) if pattern.fits(self._depths))

    def sample(self, num_layers: int, rng: random.Random) -> Pattern:
        listed = self._listed(num_layers)
        if listed is not None:
            return rng.choice(listed)
        while not (pattern := self._whole.sample(num_layers, rng)).fits(self._depths):
            pass
        return pattern

    def _listed(self, num_layers: int) -> tuple[Pattern, ...] | None:
        listed = super()._listed(num_layers)
        return None if listed is None else tuple(pattern for pattern in listed if pattern.fits(self._depths))

    def _fits(self, pattern: Pattern, num_layers: int) -> bool:
        return pattern.fits(self._depths) and super()._fits(pattern, num_layers)

    def _alone(self, depth: int) -> int:
        """How many patterns keep layers of the stack of `depth` layers alone: as many as a model of it would have."""
        low, high = self._limits(depth)
        return self._whole.size(depth) - (not low <= depth <= high)
