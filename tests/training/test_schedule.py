"""When zeros come and how many: the cube, the steps, and what is said about words that make no sense."""

from __future__ import annotations

import math
import re

import pytest

from layersearch.errors import LayersearchError
from layersearch.training.recipe import Recipe, compressed_bytes
from layersearch.training.schedule import RENEWALS, Sparsity, span_in


def test_the_share_grows_by_the_cube_between_begin_and_end() -> None:
    """Zhu and Gupta, arXiv 1710.01878, equation 1: with an initial sparsity of 0."""
    sparsity = Sparsity(0.9, "magnitude", "local", 0.2, 0.7)
    assert [sparsity.grown(step, 10) for step in (0, 1, 2)] == [0.0, 0.0, 0.0]
    assert sparsity.grown(4, 10) == pytest.approx(1 - (1 - 2 / 5) ** 3)
    assert [sparsity.grown(step, 10) for step in (7, 8, 10)] == [1.0, 1.0, 1.0]
    grown = [sparsity.grown(step, 1000) for step in range(1001)]
    assert grown == sorted(grown)


def test_zeros_are_chosen_anew_at_every_step_of_a_short_training_and_a_hundred_times_in_a_long_one() -> None:
    sparsity = Sparsity(0.5, "magnitude", "local", 0.1, 0.8)
    assert sorted(sparsity.renewals(24)) == list(range(3, 20))
    long = sorted(sparsity.renewals(10_000))
    assert (len(long), long[0], long[-1]) == (RENEWALS, 1070, 8000)
    for steps in (1, 2, 3, 5):  # however short, the last one is there
        assert max(sparsity.renewals(steps)) == sparsity.span(steps)[1] <= steps


def test_words_that_are_left_out_have_the_defaults_of_the_method() -> None:
    magnitude = Recipe(sparsity=0.5)
    assert magnitude.zeros == Sparsity(0.5, "magnitude", "local", 0.1, 0.8)
    assert Recipe(sparsity=0.5, sparsity_method="movement").zeros == Sparsity(
        0.5, "movement", "local", 0.1, 0.8, rate=0.01
    )
    soft = Recipe(sparsity=0.5, sparsity_method="soft-movement")
    assert soft.zeros == Sparsity(0.5, "soft-movement", "global", 0.1, 0.8, rate=0.01, penalty=400.0)
    for recipe in (magnitude, soft, Recipe(sparsity=0.3, sparsity_steps="0-1", sparsity_scope="global")):
        told = Recipe(**recipe.as_dict())  # type: ignore[arg-type]
        assert (told.as_dict(), told.zeros) == (recipe.as_dict(), recipe.zeros)
        assert recipe.dense == Recipe()
        assert recipe.with_(seed=3).dense == Recipe(seed=3)
    assert "sparsity_lr" not in magnitude.as_dict()
    assert not any(name.startswith(("sparsity", "teach", "start")) for name in Recipe().as_dict())


def test_what_zeros_take_is_counted() -> None:
    plain, magnitude, soft = (
        Recipe(sparsity=share, sparsity_method=method)
        for share, method in ((None, None), (0.5, "magnitude"), (0.5, "soft-movement"))
    )
    assert [recipe.state_bytes for recipe in (plain, magnitude, soft)] == [12, 17, 29]
    assert [recipe.training_bytes for recipe in (plain, magnitude, soft)] == [16, 21, 37]
    assert Recipe(teach="hidden").training_bytes == 20
    assert compressed_bytes(17, 4) == 16 + 3


@pytest.mark.parametrize("value", [0.0, 1.0, 1.5, -0.1, math.nan, math.inf])
def test_a_share_of_nothing_or_of_all_and_beyond_is_refused(value: float) -> None:
    allowed = "above 0 and below 1, the share of the weights that end as zero"
    with pytest.raises(LayersearchError, match=re.escape(f"--sparsity {value} is not possible; allowed: {allowed}")):
        Recipe(sparsity=value)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            {"sparsity_method": "movement"},
            "--sparsity-method says nothing without --sparsity; add the share of",
        ),
        (
            {"sparsity_steps": "0-1"},
            "--sparsity-steps says nothing without --sparsity; add the share of",
        ),
        (
            {"sparsity": 0.5, "sparsity_method": "magnitud"},
            "unknown sparsity method 'magnitud' (did you mean",
        ),
        (
            {"sparsity": 0.5, "sparsity_scope": "all"},
            "unknown sparsity scope 'all' (did you mean 'local'?); allowed: lo",
        ),
        ({"sparsity": 0.5, "sparsity_lr": 0.1}, "--sparsity-lr says nothing of --sparsity-method magnitude; leave it "),
        (
            {"sparsity": 0.5, "sparsity_method": "movement", "sparsity_penalty": 1.0},
            "--sparsity-penalty says nothing of --sparsity-method movement; leave it out",
        ),
        (
            {"sparsity": 0.5, "sparsity_method": "movement", "sparsity_lr": 2.0},
            "--sparsity-lr 2.0 is not possible; allowed: above 0 and at most 1",
        ),
        (
            {"sparsity": 0.5, "freeze": "0-2"},
            "--freeze '0-2' leaves layers as they are, and --sparsity makes",
        ),
        (
            {"teach": "hiden"},
            "unknown --teach 'hiden' (did you mean 'hidden'?); allowed: logits, hidden, ",
        ),
        ({"start_weights": "random"}, "unknown --start-weights 'random' (did you mean 'pre-trained'?); "),
    ],
)
def test_words_that_make_no_sense_are_one_line(words: dict[str, float | str], line: str) -> None:
    with pytest.raises(LayersearchError, match=re.escape(line)) as raised:
        Recipe().with_(**words)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["0.8-0.1", "0.5-0.5", "0.1-1.1", "0.1", "a-b", "", "0.1-0.5-0.8"])
def test_steps_are_two_rising_shares(text: str) -> None:
    assert span_in(".1-1") == (0.1, 1.0)
    with pytest.raises(LayersearchError, match=f"--sparsity-steps {text} is not possible; allowed: two rising shares"):
        span_in(text)
    assert Recipe(sparsity=0.5, freeze="embeddings").zeros is not None
