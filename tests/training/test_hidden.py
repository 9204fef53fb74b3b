"""Hidden states that lead a candidate's: which block answers to which layer, what counts, and what it does."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from layersearch.errors import LayersearchError
from layersearch.models.base import BaseModel
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.search.preparing import prepare
from layersearch.search.question import What
from layersearch.tasks.task import Encoded
from layersearch.training.batches import batch_of
from layersearch.training.evaluator import Evaluator
from layersearch.training.finetune import Teacher, begin, finetune
from layersearch.training.hidden import Leader, states_behind
from layersearch.training.job import Job
from layersearch.training.recipe import Recipe
from layersearch.training.told import told_in
from tests.models.tiny import TINY
from tests.models.tiny_decoders import DECODERS
from tests.training.conftest import RECIPE

Data = dict[str, Encoded]
FAMILIES = {**TINY, **DECODERS}


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("0-3", {0: 0, 1: 1, 2: 2, 3: 3}),
        ("0 3", {0: 0, 1: 3}),
        ("0-1 1 3", {0: 0, 2: 1, 3: 3}),  # of copies the last
        ("0 0t 2a", {1: 0, 2: 2}),
        ("2f 2a", {1: 2}),
    ],
)
def test_the_last_block_of_a_layer_is_led_by_it(base: BaseModel, text: str, pairs: dict[int, int]) -> None:
    assert Leader(base.model, Pattern.parse(text)).pairs == pairs


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_states_behind_its_layers(name: str) -> None:
    """A candidate that drops nothing is not away from its larger model, one that says 0 is by 1."""
    entry = FAMILIES[name]
    model, inputs = entry.model(), entry.inputs()
    leader = Leader(model, Pattern.full(4))
    with torch.no_grad(), states_behind(model, range(4)) as own:
        model(**inputs)
    assert sorted(own) == [0, 1, 2, 3]
    assert float(leader.apart(own, inputs)) == pytest.approx(0.0, abs=1e-9)
    nothing = {place: torch.zeros_like(state) for place, state in own.items()}
    assert float(leader.apart(nothing, inputs)) == pytest.approx(1.0)
    for text in (*entry.whole, *(entry.halved if entry.halves else ())):
        pattern = Pattern.parse(text)
        led = Leader(model, pattern)
        candidate = build(model, pattern)
        with states_behind(candidate, led.pairs) as own:
            candidate(**inputs)
        assert set(own) == set(led.pairs)
        away = led.apart(own, inputs)
        assert torch.isfinite(away)
        assert away.requires_grad


@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2"])
def test_padding_does_not_count(name: str) -> None:
    entry = FAMILIES[name]
    model, inputs = entry.model(), entry.inputs()
    with torch.no_grad(), states_behind(model, [3]) as own:
        model(**inputs)
    mask = inputs["attention_mask"].T if name == "xlnet" else inputs["attention_mask"]
    leader = Leader(model, Pattern.parse("3"))
    own[0] = own.pop(3)
    wrong = {0: own[0] + 7 * (1 - mask[..., None])}
    assert float(leader.apart(wrong, inputs)) == pytest.approx(0.0, abs=1e-9)
    wrong = {0: own[0] + 7 * mask[..., None]}
    assert float(leader.apart(wrong, inputs)) > 0.1


def test_a_candidate_comes_nearer_to_the_states_that_lead_it(base: BaseModel, data: Data) -> None:
    larger, pattern, train = build(base.model, Pattern.full(4)), Pattern.parse("0 3"), data["train"]
    finetune(larger, "classification", RECIPE, train)
    leader = Leader(larger.eval(), pattern)  # type: ignore[no-untyped-call]
    model = build(base.model, pattern)
    batch = batch_of(train, torch.arange(16).numpy(), "classification", model.device, 0)

    def away() -> float:
        model.eval()  # type: ignore[no-untyped-call]
        with torch.no_grad(), states_behind(model, leader.pairs) as own:
            model(**batch.inputs)
            return float(leader.apart(own, batch.inputs))

    before, kept = away(), {name: tensor.clone() for name, tensor in larger.state_dict().items()}
    begin(model, "classification", RECIPE, train, Teacher(None, 1.0, leader)).advance(1.0)
    assert away() < 0.7 * before
    assert all(torch.equal(kept[name], tensor) for name, tensor in larger.state_dict().items())
    assert all(parameter.grad is None for parameter in build(larger, pattern).parameters())


def test_a_job_is_taught_by_what_its_recipe_says(evaluator: Evaluator, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert evaluator(Job(0, "0-3", 0, checkpoint=str(whole))).reason is None
    job = Job(1, "0 3", 0, start=str(whole))

    def by(**words: str) -> Evaluator:
        return replace(evaluator, recipe=evaluator.recipe.with_(**words))

    hidden = by(teach="hidden")(job)
    assert hidden.reason is None, hidden.trace
    assert not told_in(whole).exists()
    logits, both = by(teach="logits")(job), by(teach="logits+hidden")(job)
    assert told_in(whole).exists()
    assert len({outcome.train_loss for outcome in (hidden, logits, both)}) == 3
    forward = 1 / 3  # the larger model runs on each example
    scored = len(evaluator.data["search"]) / (3 * len(evaluator.data["train"]) * RECIPE.epochs) / 2
    assert hidden.work == pytest.approx(0.5 + forward + scored)
    cold = by(teach="hidden", start_weights="pre-trained")(job)
    assert cold.reason is None, cold.trace
    assert cold.start == "whole"
    assert cold.train_loss != hidden.train_loss
    assert cold.work == pytest.approx(hidden.work)


def test_a_candidate_that_mixes_its_layers_is_led_by_their_own_states_and_gets_zeros(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    larger = build(evaluator.base.model, Pattern.full(4)).eval()  # type: ignore[no-untyped-call]
    mixing = Pattern.parse("0-3 mix")
    leader, inputs = Leader(larger, mixing), FAMILIES["bert"].inputs()
    inputs["input_ids"] = inputs["input_ids"] % 20
    candidate = build(larger, mixing)
    with torch.no_grad(), states_behind(candidate, leader.pairs) as own:
        candidate(**inputs)
    assert float(leader.apart(own, inputs)) == pytest.approx(0.0, abs=1e-9)
    whole = tmp_path / "whole"
    assert evaluator(Job(0, "0-3", 0, checkpoint=str(whole))).reason is None
    recipe = evaluator.recipe.with_(teach="hidden", sparsity=0.5)
    outcome = replace(evaluator, recipe=recipe)(Job(1, "0 2a 3 mix", 0, start=str(whole)))
    assert outcome.reason is None, outcome.trace
    assert outcome.sparsity == pytest.approx(0.5, abs=1e-3)
    assert outcome.mix is not None


@pytest.mark.parametrize(
    ("recipe", "method", "message"),
    [
        (
            Recipe(teach="hidden"),
            "fine-tune",
            "--teach hidden is about candidates that learn from the fine-tuned",
        ),
        (Recipe(start_weights="pre-trained"), "one-shot", "one-shot they do not; add --method distill"),
    ],
)
def test_teaching_is_refused_where_nobody_is_taught(
    tiny_model: Path, tiny_data: Path, recipe: Recipe, method: str, message: str
) -> None:
    with pytest.raises(LayersearchError, match=message):
        prepare(What(str(tiny_model), "sst2", tiny_data, recipe=recipe.with_(max_length=24), method=method))  # type: ignore[arg-type]


def test_hidden_states_do_not_lead_a_model_whose_training_skips_layers(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layerdrop": 0.1}))
    recipe = Recipe(teach="logits+hidden", max_length=24)
    with pytest.raises(LayersearchError) as caught:
        prepare(What(str(folder), "sst2", tiny_data, recipe=recipe, method="distill"))
    assert str(caught.value) == (
        "--teach logits+hidden leads every layer, and training skips layers of this model (config.json says layerdrop "
        "= 0.1); set it to 0, or leave --teach out"
    )
    assert prepare(What(str(folder), "sst2", tiny_data, recipe=recipe.with_(teach="logits"), method="distill"))
