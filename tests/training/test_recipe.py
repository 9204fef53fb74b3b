"""The recipe: bounds with their texts, presets against the paper's figures, changes."""

from __future__ import annotations

import math
import re
from dataclasses import fields

import pytest

from layersearch.errors import LayersearchError
from layersearch.training.recipe import PRESETS, Recipe, option_of, preset


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("learning_rate", 0.0, "above 0 and at most 1"),
        ("learning_rate", 2.0, "above 0 and at most 1"),
        ("learning_rate", math.nan, "above 0 and at most 1"),
        ("batch_size", 0, "1 or more"),
        ("epochs", 0.0, "above 0"),
        ("epochs", math.inf, "above 0"),
        ("warmup", 1.0, "from 0 to below 1 (a share of the steps)"),
        ("warmup", -0.1, "from 0 to below 1 (a share of the steps)"),
        ("weight_decay", 1.0, "from 0 to below 1"),
        ("max_grad_norm", -1.0, "0 or more (0 does not clip)"),
        ("max_length", 3, "4 or more tokens"),
        ("seed", -1, "from 0 to 2**32 - 1"),
        ("seed", 2**32, "from 0 to 2**32 - 1"),
        ("precision", "fp16", "auto, bf16 or fp32"),
    ],
)
def test_a_value_outside_its_bounds_is_refused_with_what_is_allowed(
    name: str, value: float | str, allowed: str
) -> None:
    with pytest.raises(
        LayersearchError, match=re.escape(f"{option_of(name)} {value} is not possible; allowed: {allowed}")
    ):
        Recipe().with_(**{name: value})


def test_the_bounds_themselves_are_allowed() -> None:
    edges = {"learning_rate": 1, "batch_size": 1, "warmup": 0, "weight_decay": 0, "max_grad_norm": 0, "max_length": 4}
    assert edges.items() <= Recipe().with_(**edges).as_dict().items()
    assert Recipe(seed=2**32 - 1).seed == 2**32 - 1


@pytest.mark.parametrize(("name", "rate", "batch"), [("glue-readme", 2e-5, 32), ("run-glue-defaults", 5e-5, 8)])
def test_the_two_recipes_of_sajjad_et_al_are_as_their_code_has_them(name: str, rate: float, batch: int) -> None:
    """3 epochs, 128 tokens, no warm-up, no decay, gradients clipped at 1 (examples/run_glue.py at their commit)."""
    recipe = preset(name)
    assert (recipe.learning_rate, recipe.batch_size) == (rate, batch)
    assert (recipe.epochs, recipe.max_length, recipe.max_grad_norm) == (3, 128, 1)
    assert (recipe.warmup, recipe.weight_decay) == (0, 0)


def test_an_unknown_preset_offers_the_nearest() -> None:
    message = f"unknown recipe 'glue-readm' (did you mean 'glue-readme'?); allowed: {', '.join(PRESETS)}"
    with pytest.raises(LayersearchError, match=re.escape(message)):
        preset("glue-readm")


def test_with_changes_what_is_given_and_leaves_what_is_none() -> None:
    changed = Recipe().with_(learning_rate=3e-5, epochs=None, seed=7)
    assert changed == Recipe(learning_rate=3e-5, seed=7)


def test_a_recipe_is_told_whole_by_its_dictionary() -> None:
    recipe = Recipe(epochs=0.5, precision="bf16")
    assert Recipe(**recipe.as_dict()) == recipe  # type: ignore[arg-type]
    assert Recipe(**(mixed := Recipe(mix_lr=0.1)).as_dict()) == mixed  # type: ignore[arg-type]


def test_fields_that_came_after_the_first_studies_are_told_only_where_they_say_something() -> None:
    """A new field is left out by being new, or no study from before it could go on."""
    first = [field.name for field in fields(Recipe)][:9]
    assert list(Recipe().as_dict()) == first
    assert list(Recipe(freeze="embeddings").as_dict()) == [*first, "freeze"]


def test_defaults_of_zeros_follow_what_is_changed_later() -> None:
    """What nobody said is not held on to: the scope of soft movement, the score's rate of a method that has none."""
    half = Recipe(sparsity=0.5)
    soft = half.with_(sparsity_method="soft-movement").zeros
    assert soft is not None
    assert (soft.scope, half.as_dict()["sparsity_scope"]) == ("global", "local")
    assert Recipe(sparsity=0.5, sparsity_method="movement").with_(sparsity_method="magnitude").zeros == half.zeros
