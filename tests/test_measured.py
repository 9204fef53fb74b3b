"""Measured numbers become patterns: by hand, for every k, and by threshold."""

import pytest

from layersearch.errors import PatternError
from layersearch.measured import (
    BY_THRESHOLD,
    MEASURED,
    Measured,
    angular,
    attention_only_influence,
    block_influence,
    contribution,
    ffn_only_influence,
    spell_measured,
    weights,
    weights_variance,
)

LAYERS = 5
NUMBERS = Measured(
    first_token=(0.5, 0.96, 0.8, 0.93, 0.6),
    all_tokens=(0.9, 0.7, 0.8, 0.6, 0.95),
    attention=(0.5, 0.4, 0.3, 0.2, 0.1),
    ffn=(0.3, 0.1, 0.2, 0.1, 0.4),
    apart=tuple(tuple(float((last - first) ** 2 - (first == 1)) for last in range(6)) for first in range(6)),
    weight_size=(0.4, 0.3, 0.5, 0.2, 0.6),
    weight_variance=(0.2, 0.4, 0.3, 0.1, 0.5),
)


def test_what_changes_least_goes() -> None:
    assert str(contribution(NUMBERS, 2)) == "0 2 4"
    assert str(block_influence(NUMBERS, 2)) == "1-3"
    assert str(weights(NUMBERS, 2)) == "0 2 4"
    assert str(weights_variance(NUMBERS, 2)) == "1-2 4"
    assert str(ffn_only_influence(NUMBERS, 2)) == "0 1a 2 3a 4"
    assert str(attention_only_influence(NUMBERS, 2)) == "0-2 3f 4f"


def test_of_equal_layers_the_highest_goes() -> None:
    assert str(ffn_only_influence(NUMBERS, 1)) == "0-2 3a 4"


def test_neighbours_go_together() -> None:
    assert [str(angular(NUMBERS, k)) for k in (1, 2, 4)] == ["0 2-4", "0 3-4", "0"]


@pytest.mark.parametrize("name", MEASURED)
def test_every_k_spells_a_pattern_of_its_own(name: str) -> None:
    patterns = spell_measured(NUMBERS)[name]
    halves = name.endswith("only-influence")
    assert len(patterns) == LAYERS - (not halves)
    for k, pattern in enumerate(patterns, 1):
        pattern.check(LAYERS)
        gone = sum(block.halves != "both" for block in pattern.blocks) if halves else len(pattern.dropped(LAYERS))
        assert gone == k
    for k in (0, len(patterns) + 1):
        with pytest.raises(PatternError, match=f"^{name} with k = {k} is impossible for 5 layers: k can be 1 to "):
            MEASURED[name](NUMBERS, k)


def test_a_threshold_says_how_many_go() -> None:
    assert str(BY_THRESHOLD["contribution"](NUMBERS, 0.9)) == "0 2 4"
    assert str(BY_THRESHOLD["contribution"](NUMBERS, 0.95)) == "0 2-4"
    assert str(BY_THRESHOLD["block-influence"](NUMBERS, 0.15)) == "1-3"


@pytest.mark.parametrize(
    ("name", "threshold", "message"),
    [
        ("contribution", 0.99, "no layer has a cosine above 0.99, .*between 0.5000 and 0.9600; choose another thr"),
        ("contribution", 0.1, "all layers have a cosine above 0.1, which leaves no pattern to try"),
        ("block-influence", 0.01, "no layer has a block influence below 0.01, .* between 0.0500 and 0.4000"),
    ],
)
def test_a_threshold_that_drops_nothing_or_all_is_refused(name: str, threshold: float, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        BY_THRESHOLD[name](NUMBERS, threshold)
