"""Patterns of a space that nobody has tried, drawn at random: for when a sampler has run out of new ones.

Knows: a search space. Does not know: studies, samplers, what was tried.
"""

from __future__ import annotations

import random
from collections.abc import Container
from functools import cached_property

from layersearch.pattern import Pattern
from layersearch.search_space import SearchSpace

ENUMERABLE = 4096  # spaces up to this size are listed to find what is unseen
DRAWS = 1000  # from a larger one


class Unseen:
    """The patterns of `space`, for a model of `num_layers` layers."""

    def __init__(self, space: SearchSpace, num_layers: int, seed: int) -> None:
        self._space = space
        self._num_layers = num_layers
        self._random = random.Random(seed)

    def draw(self, seen: Container[str]) -> Pattern | None:
        """A pattern whose text is not in `seen`; None if the space has none (or none is found)."""
        if self._space.size(self._num_layers) <= ENUMERABLE:
            unseen = [pattern for text, pattern in self._listed.items() if text not in seen]
            return self._random.choice(unseen) if unseen else None
        draws = (self._space.sample(self._num_layers, self._random) for _ in range(DRAWS))
        return next((pattern for pattern in draws if str(pattern) not in seen), None)

    @cached_property
    def _listed(self) -> dict[str, Pattern]:
        """The patterns of a small space, by text."""
        return {str(pattern): pattern for pattern in self._space.patterns(self._num_layers)}
