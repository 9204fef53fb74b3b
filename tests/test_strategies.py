"""Strategies against the table of the paper, and what holds for every depth."""

import pytest

from layersearch.counts import count
from layersearch.errors import PatternError
from layersearch.measured import MEASURED
from layersearch.pattern import Pattern
from layersearch.strategies import STRATEGIES, duplicate, named_patterns, possible, random_layers, spell

DROPPING = ("top", "bottom", "alternate-even", "alternate-odd", "symmetric", "every-other", "random")

# Which layers go, counted from 1: Sajjad et al., arXiv 2004.03844 v1, sections 2 and 4 and figure 3.
PAPER = {
    ("top", 12, 2): {11, 12},
    ("top", 12, 4): {9, 10, 11, 12},
    ("top", 12, 6): {7, 8, 9, 10, 11, 12},
    ("top", 6, 1): {6},
    ("top", 6, 2): {5, 6},
    ("top", 6, 3): {4, 5, 6},
    ("bottom", 12, 2): {1, 2},
    ("bottom", 12, 4): {1, 2, 3, 4},
    ("bottom", 12, 6): {1, 2, 3, 4, 5, 6},
    ("bottom", 6, 1): {1},
    ("bottom", 6, 2): {1, 2},
    ("bottom", 6, 3): {1, 2, 3},
    ("alternate-even", 12, 2): {10, 12},
    ("alternate-even", 12, 4): {6, 8, 10, 12},
    ("alternate-even", 12, 6): {2, 4, 6, 8, 10, 12},
    ("alternate-even", 6, 1): {6},
    ("alternate-even", 6, 2): {4, 6},
    ("alternate-even", 6, 3): {2, 4, 6},
    ("alternate-odd", 12, 2): {9, 11},
    ("alternate-odd", 12, 4): {5, 7, 9, 11},
    ("alternate-odd", 12, 6): {1, 3, 5, 7, 9, 11},
    ("alternate-odd", 6, 1): {5},
    ("alternate-odd", 6, 2): {3, 5},
    ("alternate-odd", 6, 3): {1, 3, 5},
    ("symmetric", 12, 2): {6, 7},
    ("symmetric", 12, 4): {5, 6, 7, 8},
    ("symmetric", 12, 6): {4, 5, 6, 7, 8, 9},
    ("symmetric", 6, 2): {3, 4},
    # Which layers stay (counted from 0) in DynaBERT's code: 0, 2, 4, 6, 8, 10 and 0, 1, 2, 4, 5, 6, 8, 9, 10.
    ("every-other", 12, 6): {2, 4, 6, 8, 10, 12},
    ("every-other", 12, 3): {4, 8, 12},
    # The same rules for 24 layers, by hand.
    ("top", 24, 3): {22, 23, 24},
    ("bottom", 24, 3): {1, 2, 3},
    ("alternate-even", 24, 5): {16, 18, 20, 22, 24},
    ("alternate-odd", 24, 5): {15, 17, 19, 21, 23},
    ("symmetric", 24, 4): {11, 12, 13, 14},
    ("symmetric", 24, 22): set(range(2, 24)),
}


@pytest.mark.parametrize(("case", "dropped"), PAPER.items(), ids=str)
def test_the_layers_of_the_paper_go(case: tuple[str, int, int], dropped: set[int]) -> None:
    name, num_layers, k = case
    pattern = spell(name, num_layers, k)
    assert {layer + 1 for layer in pattern.dropped(num_layers)} == dropped
    assert pattern == Pattern.of_layers(layer for layer in range(num_layers) if layer + 1 not in dropped)


@pytest.mark.parametrize("name", DROPPING)
@pytest.mark.parametrize("num_layers", range(1, 25))
def test_k_layers_go_and_the_rest_stays_in_order(name: str, num_layers: int) -> None:
    for k in possible(name, num_layers):
        pattern = spell(name, num_layers, k)
        pattern.check(num_layers)
        assert len(pattern.dropped(num_layers)) == k == num_layers - pattern.depth
        assert pattern.is_whole
        assert list(pattern.blocks) == sorted(pattern.blocks)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("num_layers", range(1, 25))
def test_exactly_the_possible_ks_spell_and_all_differ(name: str, num_layers: int) -> None:
    ks = possible(name, num_layers)
    assert len({spell(name, num_layers, k) for k in ks}) == len(ks)
    for k in set(range(-1, num_layers + 2)) - set(ks):
        with pytest.raises(
            PatternError, match=f"^{name} with k = {k} is impossible for {count(num_layers, 'layer')}: "
        ):
            spell(name, num_layers, k)


def test_the_possible_ks_of_the_paper() -> None:
    assert possible("top", 12) == tuple(range(1, 12))
    assert possible("alternate-even", 12) == possible("alternate-odd", 12) == tuple(range(1, 7))
    assert possible("symmetric", 12) == (2, 4, 6, 8, 10)
    assert possible("symmetric", 5) == (1, 3)
    assert [possible(name, 1) for name in DROPPING] == [()] * 7


def test_an_odd_depth_counts_from_the_top_too() -> None:
    assert spell("alternate-even", 5, 2).dropped(5) == (2, 4)
    assert spell("alternate-odd", 5, 2).dropped(5) == (1, 3)
    assert spell("symmetric", 5, 1).dropped(5) == (2,)


def test_halves_and_copies_come_from_the_top() -> None:
    assert str(spell("ffn-only", 6, 2)) == "0-3 4a 5a"
    assert str(spell("attention-only", 6, 2)) == "0-3 4f 5f"
    assert str(spell("duplicate", 6, 2)) == "0-4 4 5 5"
    assert str(spell("ffn-only", 3, 3)) == "0a 1a 2a"


def test_other_places_for_halves_and_copies() -> None:
    assert str(spell("ffn-only-bottom", 6, 2)) == "0a 1a 2-5"
    assert str(spell("ffn-only-alternate", 6, 2)) == "0-2 3a 4 5a"
    assert str(spell("attention-only-bottom", 6, 1)) == "0f 1-5"
    assert str(spell("attention-only-alternate", 5, 3)) == "0f 1 2f 3 4f"
    assert str(spell("duplicate-bottom", 6, 1)) == "0 0 1-5"
    assert str(spell("duplicate-middle", 6, 2)) == "0-2 2 3 3 4-5"
    assert str(spell("duplicate-tied", 6, 2)) == "0-4 4t 5 5t"
    assert str(duplicate(6, 1, "middle", copies=2, tied=True)) == "0-2 2t 2t 3-5"


def test_random_layers_follow_the_seed() -> None:
    drawn = {str(random_layers(12, 6, seed)) for seed in range(20)}
    assert len(drawn) > 15
    assert random_layers(12, 6, 3) == random_layers(12, 6, 3)
    assert spell("random", 12, 6) == random_layers(12, 6, 0)


@pytest.mark.parametrize(
    ("name", "num_layers", "k", "message"),
    [
        ("symmetric", 12, 3, "symmetric with k = 3 is impossible for 12 layers: k can be 2 to 10, even k only"),
        ("symmetric", 5, 2, "symmetric with k = 2 is impossible for 5 layers: k can be 1 to 3, odd k only"),
        ("top", 12, 12, "top with k = 12 is impossible for 12 layers: k can be 1 to 11"),
        ("top", 1, 1, "top with k = 1 is impossible for 1 layer: the strategy needs more layers than that; "),
        (
            "symetric",
            12,
            2,
            "unknown strategy 'symetric' (did you mean 'symmetric'?); allowed: top, bottom, alternate-",
        ),
        ("?", 12, 2, "unknown strategy '?'; allowed: top, bottom, "),
    ],
)
def test_impossible_strategies_are_one_clear_line(name: str, num_layers: int, k: int, message: str) -> None:
    with pytest.raises(PatternError) as caught:
        spell(name, num_layers, k)
    assert str(caught.value).startswith(message)


def test_an_unknown_name_has_no_possible_ks() -> None:
    with pytest.raises(PatternError, match="unknown strategy 'bottem'"):
        possible("bottem", 6)


def test_every_strategy_names_its_source() -> None:
    for rule in (*STRATEGIES.values(), *MEASURED.values()):
        source = getattr(rule, "func", rule).__doc__ or ""
        assert "arXiv" in source or "counterpart" in source, rule


def test_named_patterns_name_every_strategy_that_spells_a_pattern() -> None:
    named = named_patterns(6)
    assert named["0-3"] == "top 2"
    assert named["0-4"] == "top 1, alternate-even 1, every-other 1"
    assert "0-5" not in named
    assert not any("random" in names for names in named.values())
    told = {"angular": [Pattern.parse("0-4"), Pattern.parse("0 3-5")]}
    assert named_patterns(6, told)["0-4"] == "top 1, alternate-even 1, every-other 1, angular 1"
    assert named_patterns(6, told)["0 3-5"] == "angular 2"
