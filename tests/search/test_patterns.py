"""What `patterns` lists is what a model can have: two stacks, one layer for all, families without halves."""

from __future__ import annotations

import pytest

from layersearch.errors import PatternError
from layersearch.measured import Measured
from layersearch.pattern import PartCounts
from layersearch.search.patterns import Spelled, check_names, patterns_by_strategy
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


def test_a_strategy_without_a_pattern_is_told_beside_the_patterns_of_the_others() -> None:
    cosines, said = (0.95, 0.5, 0.4), list[str]()
    counts, measured = PartCounts(5, (1,) * 3, (2,) * 3), Measured(cosines, cosines, (), (), (), (), ())
    found = patterns_by_strategy(
        counts, "bert", ("contribution", "block-influence"), measured, said.append, threshold=0.9
    )
    assert [one.strategy for one in found] == ["contribution"]
    assert said == [
        "no pattern of block-influence: all layers have a block influence below 0.9, which leaves no pattern to try: "
        "they lie between 0.0500 and 0.6000; choose another threshold, or give k"
    ]


def test_k_and_a_threshold_are_not_taken_together() -> None:
    with pytest.raises(PatternError, match=r"--k 2 and --threshold 0\.9 both say which layers go; give one of them"):
        check_names(("contribution",), 0.9, 2)
