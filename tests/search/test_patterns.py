"""What `patterns` lists is what a model can have: two stacks, one layer for all, families without halves."""

from __future__ import annotations

import pytest

from layersearch.errors import PatternError
from layersearch.pattern import PartCounts
from layersearch.search.patterns import Spelled, patterns_by_strategy
from layersearch.strategies import STRATEGIES

SPELLED = ("top", "bottom", "ffn-only", "duplicate", "duplicate-tied")


def spelled(model_type: str, *names: str, depths: tuple[int, ...] = ()) -> list[Spelled]:
    return patterns_by_strategy(PartCounts(5, (1,) * 4, (2,) * 4, depths), model_type, names or SPELLED, None)


def test_every_stack_keeps_a_layer() -> None:
    assert [str(one.pattern) for one in spelled("bart", "top", depths=(2, 2))] == ["0-2"]
    assert [str(one.pattern) for one in spelled("bert", "top")] == ["0-2", "0-1", "0"]
    found = spelled("bart", *STRATEGIES, depths=(2, 2))
    assert found
    assert all(one.pattern.fits((2, 2)) for one in found)
    with pytest.raises(PatternError, match="does not fit a model with an encoder"):
        patterns_by_strategy(PartCounts(5, (1,) * 4, (2,) * 4, (2, 2)), "bart", ("top",), None, k=2)


def test_halves_and_tied_copies_are_left_out_where_layers_have_none() -> None:
    assert {one.strategy for one in spelled("bert")} == set(SPELLED)
    assert {one.strategy for one in spelled("albert")} == {"top", "bottom", "duplicate"}
    assert {one.strategy for one in spelled("ernie")} == {"top", "bottom", "duplicate", "duplicate-tied"}
    with pytest.raises(PatternError, match="has half layers; the layers of albert models are one layer, applied"):
        spelled("albert", "ffn-only")
    with pytest.raises(PatternError, match="has tied copies, and all layers of albert share one set of weights; write"):
        spelled("albert", "duplicate-tied")
