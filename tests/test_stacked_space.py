"""Spaces of models with two stacks, against the whole spaces filtered."""

import random

import pytest

from layersearch.pattern import Pattern
from layersearch.search_space import SearchSpace
from layersearch.stacked_space import StackedSpace

SPACES = [
    SearchSpace(choices=("keep", "drop")),
    SearchSpace(choices=("keep", "drop", "ffn"), min_layers=2, max_layers=4),
    SearchSpace(choices=("keep", "attention", "duplicate"), max_layers=7),
    SearchSpace(strategies=("top", "symmetric", "duplicate")),
    SearchSpace(choices=("keep", "drop"), readout=("last", "mix"), min_layers=3),
    SearchSpace(strategies=("top",), readout=("last", "mix")),
]


@pytest.mark.parametrize("whole", SPACES)
def test_a_space_has_the_patterns_that_keep_a_layer_of_each_stack(whole: SearchSpace) -> None:
    space = StackedSpace.of(whole, (2, 3))
    expected = [pattern for pattern in whole.patterns(5) if pattern.fits((2, 3))]
    assert list(space.patterns(5)) == expected
    assert space.size(5) == len(expected)
    assert {space.sample(5, random.Random(seed)) for seed in range(300)} <= set(expected)
    assert set(space.start_points(5)) <= set(expected)
    assert space.canonical() == whole.canonical()


def test_what_lies_outside_is_said_to() -> None:
    space = StackedSpace.of(SPACES[0], (2, 3))
    assert space.params_of(Pattern.parse("0-1"), 5) is None
    assert space.params_of(Pattern.parse("0 3"), 5) is not None
    assert Pattern.parse("0") not in space.neighbours(Pattern.parse("0 3"), 5)
    inside = space.within([Pattern.parse("0 3"), Pattern.parse("3-4")], 5)
    assert [str(pattern) for pattern in inside.patterns(5)] == ["0 3"]


def test_the_top_of_two_stacks_is_the_decoder_until_its_last_layer() -> None:
    space = StackedSpace.of(SearchSpace(strategies=("top",)), (2, 3))
    assert [str(pattern) for pattern in space.patterns(5)] == ["0-4", "0-3", "0-2"]
