"""When layers go and what is trained: freezing, one layer every so many epochs, and from the fine-tuned model again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from layersearch.errors import LayersearchError, PatternError, WordsError
from layersearch.models import checkpoint
from layersearch.models.surgery import build, layers_of
from layersearch.pattern import Pattern
from layersearch.recipe_options import recipe_of
from layersearch.search.preparing import prepare
from layersearch.search.question import What
from layersearch.training.evaluator import Evaluator
from layersearch.training.finetune import begin
from layersearch.training.freezing import freeze
from layersearch.training.gradual import layers_trained, way_to
from layersearch.training.influence import hidden_states
from layersearch.training.job import Job
from layersearch.training.recipe import OneShotRecipe, Recipe, frozen
from layersearch.training.told import told_in
from tests.models.conftest import LAYERS, make_tiny, tiny
from tests.models.tiny import TINY
from tests.models.tiny_decoders import DECODERS

__all__ = ["make_tiny", "tiny"]
HEAD = ("classifier", "pre_classifier", "pooler")


def texts(way: list[Pattern]) -> list[str]:
    return [str(pattern) for pattern in way]


def test_frozen_parts_are_those_of_the_base_models_layers(tiny: PreTrainedModel) -> None:
    pattern = Pattern.parse("0 2a 3 3")
    candidate = build(tiny, pattern)
    freeze(candidate, pattern, "embeddings 1-2 3")
    layers = [any(p.requires_grad for p in layer.parameters()) for layer in layers_of(candidate)]
    assert layers == [True, False, False, False]
    trained = {name for name, parameter in candidate.named_parameters() if parameter.requires_grad}
    assert trained
    assert not any("embedding" in name for name in trained)
    assert any(part in name for name in trained for part in HEAD)
    assert all(parameter.requires_grad for parameter in tiny.parameters())


@pytest.mark.parametrize("name", [*TINY, *DECODERS])
def test_frozen_embeddings_are_all_that_the_first_layer_gets(name: str) -> None:
    """What the states before the first layer of a stack depend on; relative positions go by another way."""
    entry = {**TINY, **DECODERS}[name]
    model = entry.model()
    parameters = dict(model.named_parameters())
    with hidden_states(model) as states:
        model(**entry.inputs())
    total = sum((own[0].sum() for own in states), torch.zeros(()))
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    expected = {path for path, gradient in zip(parameters, found, strict=True) if gradient is not None}
    assert expected
    relative = ("rel_embeddings.weight", "encoder.LayerNorm", "encoder.relative_attention_bias.weight", "mask_emb")
    expected |= {path for path in parameters if any(part in path for part in relative)}
    freeze(model, Pattern.full(LAYERS), "embeddings")
    assert {path for path, parameter in parameters.items() if not parameter.requires_grad} == expected


def test_the_optimizer_keeps_nothing_of_what_is_frozen(evaluator: Evaluator) -> None:
    pattern = Pattern.parse("0-1")
    candidate = build(evaluator.base.model, pattern)
    freeze(candidate, pattern, "embeddings 0")
    before = {name: tensor.clone() for name, tensor in candidate.state_dict().items()}
    training = begin(candidate, "classification", evaluator.recipe, evaluator.data["train"])
    training.advance(0.3)
    trained = [name for name, parameter in candidate.named_parameters() if parameter.requires_grad]
    moved = {name for name, tensor in candidate.state_dict().items() if not torch.equal(before[name], tensor)}
    assert len(training.state()["optimizer"]["state"]) == len(trained)
    assert moved <= set(trained)
    assert any("layer.1" in name for name in moved)


@pytest.mark.parametrize("method", ["from the base model", "from a fine-tuned one", "super-network"])
def test_what_is_frozen_stays_as_it_was_pre_trained(evaluator: Evaluator, tmp_path: Path, method: str) -> None:
    work = replace(evaluator, recipe=evaluator.recipe.with_(freeze="embeddings 0-1", epochs=1.0))
    kept = tmp_path / "kept"
    if method == "from the base model":
        outcome = work(Job(0, "0 2-3", 0, checkpoint=str(kept), influence=True))
        assert len(outcome.influence["block"]) == 6
    else:
        whole = tmp_path / "whole"
        assert work(Job(0, "0-3", 0, checkpoint=str(whole))).reason is None
        job = Job(1, "0 2-3", 0, checkpoint=str(kept), start=str(whole))
        outcome = work(job if method == "from a fine-tuned one" else replace(job, pattern="0-3", patterns=("0 2-3",)))
    assert outcome.reason is None, outcome.trace
    model, _ = checkpoint.load(kept)
    ours, theirs = dict(model.named_parameters()), dict(evaluator.base.model.named_parameters())
    same = {name: torch.equal(ours[name], theirs[name]) for name in ours if "layer.0" in name or "embeddings" in name}
    assert same
    assert all(same.values()), same


def test_words_of_freezing() -> None:
    assert frozen("") == (False, frozenset())
    assert frozen("embeddings 0-2 4") == (True, frozenset({0, 1, 2, 4}))
    with pytest.raises(LayersearchError, match="--freeze 'embedings 0' is not possible: 'embedings' is neither `emb"):
        Recipe(freeze="embedings 0")
    with pytest.raises(LayersearchError, match="--freeze '5-2': the range 5-2 runs backwards; write 2-5"):
        Recipe(freeze="5-2")
    assert "freeze" not in Recipe().as_dict()
    assert "drop_every" not in Recipe().as_dict()
    assert Recipe(freeze="0", drop_every=0.5).as_dict()["drop_every"] == 0.5
    with pytest.raises(
        LayersearchError, match=r"--drop-every -1 is not possible; allowed: above 0 \(epochs\); leave it out to drop"
    ):
        Recipe(drop_every=-1)
    with pytest.raises(
        WordsError, match=r"--drop-every 0 is not possible; allowed: above 0 \(epochs\); leave it out to"
    ):
        recipe_of(drop_every=0.0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(freeze="2-9"), "--freeze '2-9' names layer 9, but the model has layers 0-3"),
        (Recipe(drop_every=1), "--drop-every 1 drops layers while a candidate is trained from the pre-trained model, "),
    ],
)
def test_what_does_not_go_together_is_refused(tiny_model: Path, tiny_data: Path, recipe: Recipe, message: str) -> None:
    with pytest.raises(LayersearchError, match=message):
        prepare(What(str(tiny_model), "sst2", tiny_data, recipe=recipe.with_(max_length=24), method="distill"))


def test_layers_go_one_after_another_from_the_top() -> None:
    assert texts(way_to(Pattern.parse("0 2"), 4)) == ["0-3", "0-2", "0 2"]
    assert texts(way_to(Pattern.parse("0a 1f 3"), 4)) == ["0-3", "0-1 3", "0 1f 3", "0a 1f 3"]
    assert texts(way_to(Pattern.parse("0 0t 2"), 3)) == ["0 0t 1-2", "0 0t 2"]
    assert texts(way_to(Pattern.full(3), 3)) == ["0-2"]
    assert layers_trained(way_to(Pattern.parse("0 2"), 4)) == 7.0
    with pytest.raises(PatternError, match="`2 0` does not keep the layers in their order, as --drop-every needs it"):
        way_to(Pattern.parse("2 0"), 4)


@pytest.mark.parametrize("text", ["0 3", "0-1 1t 3", "0 1f 2a"])
def test_a_candidate_that_loses_layers_on_the_way_is_of_its_pattern(
    evaluator: Evaluator, tmp_path: Path, text: str
) -> None:
    work = replace(evaluator, recipe=evaluator.recipe.with_(drop_every=0.5, epochs=1.0, freeze="0"))
    outcome = work(Job(0, text, 0, checkpoint=str(tmp_path / "kept")))
    assert outcome.reason is None, outcome.trace
    model, manifest = checkpoint.load(tmp_path / "kept")
    assert str(manifest.pattern) == text
    built = build(evaluator.base.model, Pattern.parse(text))
    assert [(name, p.shape) for name, p in model.named_parameters()] == [
        (name, p.shape) for name, p in built.named_parameters()
    ]
    at_once = replace(work, recipe=work.recipe.with_(drop_every=0.0))(Job(0, text, 0))
    assert outcome.work > at_once.work
    first = next(layers_of(model)[0].parameters())
    assert torch.equal(first, next(layers_of(evaluator.base.model)[0].parameters()))


def test_weights_of_the_way_are_those_that_go_on(make_tiny: Callable[[str], PreTrainedModel]) -> None:
    """Dropped at once or one after another, without training in between it is the same candidate."""
    from layersearch.training.gradual import _seen_from

    base = make_tiny("bert")
    for text in ("0 3", "0a 2-3", "0-1 1t 3f", "1f 1a 3"):
        way = way_to(Pattern.parse(text), 4)
        model = build(base, way[0])
        for before, after in pairwise(way):
            model = build(model, _seen_from(before, after))
        wanted = build(base, Pattern.parse(text)).state_dict()
        assert list(model.state_dict()) == list(wanted)
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


def test_without_a_teacher_nobody_is_asked(evaluator: Evaluator, tmp_path: Path) -> None:
    """`tune-drop-tune`: from the fine-tuned unchanged model, on the labels alone."""
    whole = tmp_path / "whole"
    assert evaluator(Job(0, "0-3", 0, checkpoint=str(whole))).reason is None
    alone = replace(evaluator, one_shot=OneShotRecipe(taught=0.0))
    job = Job(1, "0-1", 0, start=str(whole))
    outcome = alone(job)
    assert outcome.score is not None
    assert not told_in(whole).exists()
    taught = evaluator(job)
    assert told_in(whole).exists()
    assert taught.work > outcome.work
    assert taught.train_loss != outcome.train_loss
