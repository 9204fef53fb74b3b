"""The pattern's text form, counts and drawings, mostly as properties over random patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layersearch.errors import PatternError
from layersearch.pattern import LEGEND, LEGEND_OF_MIX, Block, PartCounts, Pattern, legend_for

LAYERS = 12

blocks = st.builds(Block, st.integers(0, LAYERS - 1), st.sampled_from(["both", "attention", "ffn"]))
patterns = st.builds(
    lambda found, readout: Pattern(tuple(found), readout),
    st.lists(blocks, min_size=1, max_size=2 * LAYERS),
    st.sampled_from(["last", "mix"]),
)
sizes = st.lists(st.integers(0, 10**9), min_size=LAYERS, max_size=LAYERS).map(tuple)
counts = st.builds(PartCounts, st.integers(0, 10**9), sizes, sizes)


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("0-11", "0-11"),
        ("0-9", "0-9"),
        ("0-4 7-11", "0-4 7-11"),
        ("0-3 4a 5-11", "0-3 4a 5-11"),
        ("0-3 4f 5-11", "0-3 4f 5-11"),
        ("0-5 5 6-11", "0-5 5 6-11"),
        ("0-5 5-11", "0-5 5 6-11"),
        ("  0 1 2\t3-3 4 - 6 \n", "0-6"),
        ("5 5 5 6 7", "5 5 5 6-7"),
        ("0-2 1-3", "0-2 1-3"),
        ("3 2 1", "3 2 1"),
        ("0-3 4a 4f 5", "0-5"),
        ("4f 4a", "4f 4a"),
        ("4a 4a 4f", "4a 4"),
        ("007", "7"),
        ("0-5 5t 6-11", "0-5 5t 6-11"),
        ("5 5t 5t 5 5t 6 7", "5 5t 5t 5 5t 6-7"),
        ("4a 4f 4t 5", "4 4t 5"),
        (" 0 1  2a 2f mix ", "0-2 mix"),
        ("3f mix", "3f mix"),
    ],
)
def test_every_spelling_prints_the_canonical_text(spelling: str, canonical: str) -> None:
    assert str(Pattern.parse(spelling)) == canonical


@given(patterns)
def test_text_and_pattern_determine_each_other(pattern: Pattern) -> None:
    again = Pattern.parse(str(pattern))
    assert again == pattern
    assert hash(again) == hash(pattern)
    assert str(again) == str(pattern)


@given(patterns, patterns)
def test_patterns_are_equal_exactly_if_their_texts_are(one: Pattern, other: Pattern) -> None:
    assert (one == other) == (str(one) == str(other))
    assert (one < other) + (other < one) + (one == other) == 1


@given(patterns, st.lists(st.sampled_from([" ", "  ", "\t", " \n"]), min_size=1))
def test_blocks_written_one_by_one_are_the_same_pattern(pattern: Pattern, gaps: list[str]) -> None:
    spelling = "".join(f"{block}{gaps[i % len(gaps)]}" for i, block in enumerate(pattern.blocks))
    assert Pattern.parse(spelling + "mix" * pattern.mixes) == pattern


@given(patterns)
def test_halves_written_apart_are_the_same_pattern(pattern: Pattern) -> None:
    apart = " ".join(f"{b.layer}a {b.layer}f" if b.halves == "both" else str(b) for b in pattern.blocks)
    assert Pattern.parse(apart + " mix" * pattern.mixes) == pattern


@given(patterns, counts)
def test_parameters_are_the_fixed_part_and_every_block(pattern: Pattern, parts: PartCounts) -> None:
    expected = parts.fixed
    for block in pattern.blocks:
        expected += parts.attention[block.layer] * (block.halves in ("both", "attention"))
        expected += parts.ffn[block.layer] * (block.halves in ("both", "ffn"))
    assert pattern.parameters(parts) == expected


@given(counts, st.integers(0, LAYERS - 1))
def test_parameters_fall_by_exactly_the_dropped_part(parts: PartCounts, layer: int) -> None:
    others = [other for other in range(LAYERS) if other != layer]
    assert Pattern.full(LAYERS).parameters(parts) == parts.total
    without = parts.total - parts.attention[layer] - parts.ffn[layer]
    assert Pattern.of_layers(others).parameters(parts) == without
    assert (
        Pattern.parse(" ".join(map(str, others)) + f" {layer}a").parameters(parts) == without + parts.attention[layer]
    )


@given(patterns)
def test_properties_agree_with_each_other(pattern: Pattern) -> None:
    kept = {block.layer for block in pattern.blocks}
    diagram = pattern.diagram(LAYERS)
    assert kept | set(pattern.dropped(LAYERS)) == set(range(LAYERS))
    assert not kept & set(pattern.dropped(LAYERS))
    assert len(diagram) == LAYERS + pattern.mixes
    assert [layer for layer in range(LAYERS) if diagram[layer] == "·"] == list(pattern.dropped(LAYERS))
    assert pattern.is_whole == ("a" not in str(pattern) and "f" not in str(pattern))
    assert pattern.mixes == str(pattern).endswith(" mix") == diagram.endswith("Σ")


def test_diagram_shows_what_the_legend_says() -> None:
    assert Pattern.parse("0-1 2a 3f 5 5 7").diagram(8) == "██▀▄·2·█"
    assert all(glyph in LEGEND for glyph in "█▀▄2·")
    assert Pattern.parse(" ".join(["0"] * 12)).diagram(1) == "+"
    mixed = Pattern.parse("0 2a mix")
    assert mixed.diagram(4) == "█·▀·Σ"
    assert legend_for([Pattern.full(2), mixed]) == f"{LEGEND}  {LEGEND_OF_MIX}"
    assert legend_for([Pattern.full(2)]) == LEGEND


def test_a_mix_is_another_pattern_that_counts_its_scalars() -> None:
    mixed, plain = Pattern.parse("0-1 3t 3f mix".replace("3t", "1t")), Pattern.parse("0-1 1t 3f")
    assert mixed != plain
    assert mixed.blocks == plain.blocks
    assert mixed != Pattern.full(4)
    parts = PartCounts(7, (10,) * 4, (20,) * 4, mixed=(1, 2))
    assert mixed.parameters(parts) - plain.parameters(parts) == 4 + 2
    two = PartCounts(7, (10,) * 4, (20,) * 4, (2, 2), mixed=(1, 1))
    both = Pattern.parse("0-1 2a 3 3 mix")
    assert both.parameters(two) - Pattern(both.blocks).parameters(two) == 3 + 1


def test_patterns_sort_by_number_not_by_text() -> None:
    texts = ["0-9", "2-11", "0-11", "10-11", "0 2-11"]
    assert [str(p) for p in sorted(map(Pattern.parse, texts))] == ["0-9", "0-11", "0 2-11", "2-11", "10-11"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a pattern keeps at least one layer, this one drops everything"),
        (" \t", "a pattern keeps at least one layer, this one drops everything"),
        ("0-", "cannot read '0-' in the pattern '0-'; write source layers like `0-4 7-11`"),
        ("0-3 x", "cannot read 'x' in the pattern '0-3 x'"),
        ("4b", "cannot read '4b'"),
        ("0-3a", "cannot read '0-3a'"),
        ("-1", "cannot read '-1'"),
        ("1.5", "cannot read '1.5'"),
        ("0,1", "cannot read '0,1'"),
        ("\u0967", "cannot read '\u0967'"),
        ("7-5", "the range 7-5 in the pattern '7-5' runs backwards; write 5-7"),
        ("0-99999999", "layer 99999999 is out of reach: a pattern names layers 0-9999"),
        ("9" * 5000, "cannot read"),
        ("0 5t", "`5t` is a tied copy and needs a whole layer 5 before it; write source layers like"),
        ("5a 5t", "`5t` is a tied copy and needs a whole layer 5 before it"),
        ("5t 5", "`5t` is a tied copy and needs a whole layer 5 before it"),
        ("4-5t", "cannot read '4-5t'"),
        ("mix", "a pattern keeps at least one layer, this one drops everything"),
        ("0 mix 1", "`mix` does not stand at the end of the pattern '0 mix 1'; write source layers like"),
        ("0 mix mix", "`mix` does not stand at the end of the pattern '0 mix mix'"),
        ("0 mixed", "cannot read 'mixed'"),
    ],
)
def test_unreadable_text_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern.parse(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0-5", ""),
        ("0-2 5", "3, 4"),
        ("0 1a 2-5", "the FFN half of 1"),
        ("0 1a 2f 3f 5", "4 and the FFN half of 1 and the attention half of 2, 3"),
        ("0 1 1a 2-5", ""),
        ("0 1f 1a 2-5", ""),
    ],
)
def test_what_is_dropped_is_said_with_its_halves(text: str, words: str) -> None:
    assert Pattern.parse(text).dropped_in_words(6) == words


@pytest.mark.parametrize("question", ["check", "dropped", "diagram"])
def test_a_layer_the_model_does_not_have_is_named(question: str) -> None:
    with pytest.raises(PatternError) as caught:
        getattr(Pattern.parse("0-12"), question)(12)
    assert str(caught.value) == ("pattern `0-12` names layer 12, but the model has layers 0-11 (counted from 0)")


def test_counting_checks_the_layers_too() -> None:
    with pytest.raises(PatternError, match="names layer 2, but the model has layers 0-1"):
        Pattern.parse("0-2").parameters(PartCounts(1, (2, 2), (3, 3)))


def test_tied_copies_are_counted_once_and_know_their_owner() -> None:
    pattern = Pattern.parse("0-1 1t 1 1t 2")
    assert pattern != Pattern.parse("0-1 1 1 1 2")
    assert pattern.owners() == {2: 1, 4: 3}
    assert [str(block) for block in pattern.owned] == ["0", "1", "1", "2"]
    assert pattern.parameters(PartCounts(1, (10, 20, 30), (1, 2, 3))) == 1 + 11 + 2 * 22 + 33
    assert (pattern.depth, pattern.is_whole, pattern.diagram(3)) == (6, True, "█4█")
    with pytest.raises(PatternError, match="layer 3 is to be tied and halved: only a whole layer has tied copies"):
        Block(3, "ffn", tied=True)


def test_halves_are_one_of_three_words() -> None:
    with pytest.raises(PatternError, match="unknown halves 'left'; allowed: both, attention, ffn"):
        Block(1, "left")  # type: ignore[arg-type]


def test_a_pattern_is_split_where_the_decoder_begins() -> None:
    encoder, decoder = Pattern.parse("0 1a 1 3-4 4").split((3, 2))
    assert [str(block) for block in encoder] == ["0", "1a", "1"]
    assert [str(block) for block in decoder] == ["3", "4", "4"]
    assert Pattern.parse("2 0").split((3,)) == (Pattern.parse("2 0").blocks,)
    assert [Pattern.parse(text).fits((3, 2)) for text in ("0 4", "0-2", "3", "3 0", "0 3 1 4")] == [True, *[False] * 4]
