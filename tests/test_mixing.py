"""The words of a mix: read in any order, written in one, and one line for others."""

from __future__ import annotations

from itertools import product

import pytest

from layersearch.errors import LayersearchError
from layersearch.mixing import WORDS, Mixing
from layersearch.training.recipe import Recipe


def test_every_mix_is_read_as_it_is_written() -> None:
    for switches in product([True, False], repeat=len(WORDS)):
        mixing = Mixing(*switches)
        assert Mixing.parse(str(mixing)) == mixing
    assert str(Mixing()) == ""
    assert str(Mixing.parse("  embeddings no-gamma")) == "no-gamma embeddings"
    assert Mixing.parse("no-gamma embeddings") == Mixing(gamma=False, embeddings=True)
    assert [Mixing.parse(word).parameters[1] for word in ("", "no-gamma", "embeddings")] == [1, 0, 2]


def test_a_recipe_keeps_the_words_in_one_order_and_only_where_there_are_any() -> None:
    assert Recipe(mix="embeddings  norm") == Recipe(mix="norm embeddings")
    assert Recipe(mix="embeddings norm").as_dict()["mix"] == "norm embeddings"
    assert "mix" not in Recipe().as_dict()
    assert Recipe(mix="no-softmax").mixing == Mixing(softmax=False)
    with pytest.raises(LayersearchError, match=r"--mix 'no_gama': unknown word 'no_gama' \(did you mean 'no-gamma'\?"):
        Recipe(mix="no_gama")
