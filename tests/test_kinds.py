"""Every kind of task on tiny models: it learns, a teacher pulls it, what is kept comes in the order of the units."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from layersearch.kinds import ENDS, IGNORED, KINDS, STARTS, TOLD_TOKENS, KindName, answers_of
from layersearch.tasks.task import Encoded, Labels
from layersearch.training.batches import Batch, batch_of
from layersearch.training.finetune import Teacher, finetune, predict
from layersearch.training.recipe import Recipe

WORDS, LABELS, CPU = 30, 3, torch.device("cpu")
RECIPE = Recipe(learning_rate=1e-2, batch_size=8, epochs=15, max_length=24, precision="fp32")
NARROW: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WIDTH: dict[KindName, int] = {"regression": 1, "span": 2, "causal-lm": 1}


@dataclass(frozen=True)
class Made:
    """A tiny model with the head of a kind, and examples that it can learn."""

    kind: KindName
    model: PreTrainedModel
    data: Encoded


def _tokens(rng: np.random.Generator) -> Encoded:
    offsets = np.concatenate([[0], np.cumsum(rng.integers(3, 12, size=40))])
    ids = rng.integers(5, WORDS, size=offsets[-1]).astype(np.int32)
    return Encoded(ids, None, offsets, np.zeros(40, dtype=np.int64))


def _labels(kind: KindName, data: Encoded, rng: np.random.Generator) -> Labels:
    """Labels that the tokens tell: of the first token of an example, or of each."""
    first, ids = data.input_ids[data.offsets[:-1]], data.input_ids
    if kind == "regression":
        return (first % 4).astype(np.float32)
    if kind == "multi-label":
        return np.stack([first % 2, first % 3 == 0, first > 15], axis=1).astype(np.float32)
    if kind == "token-classification":
        return np.where(rng.random(len(ids)) < 0.2, IGNORED, ids % LABELS)
    if kind == "causal-lm":
        return np.append(ids[1:], IGNORED)
    if kind == "span":
        marks = np.zeros(len(ids), dtype=np.int64)
        for start, end in zip(data.offsets, data.offsets[1:], strict=False):
            marks[start + int(ids[start:end].argmax())] |= STARTS
            marks[start + int(ids[start:end].argmin())] |= ENDS
        return marks
    return (first % LABELS).astype(np.int64)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest) -> Made:
    kind: KindName = request.param
    rng = np.random.default_rng(0)
    head: dict[str, Any] = {"num_labels": WIDTH.get(kind, LABELS), "problem_type": KINDS[kind].problem}
    data = _tokens(rng)
    if kind == "image-classification":
        config = AutoConfig.for_model("vit", image_size=8, patch_size=4, **NARROW, **head)
        labels = rng.integers(0, LABELS, size=40)
        pixels = rng.normal(size=(40, 3, 8, 8)).astype(np.float16) * 0.1
        pixels += labels[:, None, None, None].astype(np.float16)
        data = Encoded(np.zeros(40, dtype=np.int32), None, np.arange(41), labels, pixels)
    else:
        data = Encoded(data.input_ids, None, data.offsets, _labels(kind, data, rng))
        if kind == "causal-lm":
            config = AutoConfig.for_model("gpt2", vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2, n_positions=32)
        else:
            config = AutoConfig.for_model("bert", vocab_size=WORDS, max_position_embeddings=32, **NARROW, **head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, KINDS[kind].head).from_config(config)
    return Made(kind, model, data)


def run(model: PreTrainedModel, batch: Batch, **labels: torch.Tensor) -> Any:
    model.eval()  # type: ignore[no-untyped-call]
    return model(**batch.inputs, **labels)


def _loss(made: Made, model: PreTrainedModel) -> float:
    batch = batch_of(made.data, np.arange(len(made.data)), made.kind, CPU, 0)
    with torch.no_grad():
        logits = answers_of(run(model, batch), batch.inputs, made.kind)
        return float(KINDS[made.kind].loss(logits, batch.labels, batch.lengths))


def test_it_learns(made: Made) -> None:
    model = copy.deepcopy(made.model)
    before = _loss(made, model)
    recipe = RECIPE.with_(epochs=25.0) if made.kind == "span" else RECIPE
    finetune(model, made.kind, recipe, made.data)
    bar = 0.97 if made.kind == "causal-lm" else 0.7  # random tokens can only be learnt by heart
    assert _loss(made, model) < bar * before


def test_pieces_of_a_batch_teach_what_the_whole_one_does(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    found, recipe = {}, RECIPE.with_(epochs=1.0, batch_size=7)
    for tokens in (10**6, 24):
        monkeypatch.setattr("layersearch.training.steps.TOKENS", tokens)
        model, seen = copy.deepcopy(made.model), list[int]()
        model.register_forward_pre_hook(lambda *_, to=seen: to.append(1))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # it draws other numbers for pieces
        teacher = Teacher(predict(model, made.kind, made.data, "fp32", teaching=True), 0.5)
        seen.clear()
        loss = finetune(model, made.kind, recipe, made.data, teacher=teacher)
        found[tokens] = (loss, len(seen), _loss(made, model))
    (loss, once, after), (other, often, then) = found.values()
    assert (other, then) == pytest.approx((loss, after), rel=1e-4)
    assert (often > once) == (made.kind in ("classification", "regression", "multi-label", "span"))


def test_the_loss_is_that_of_transformers(made: Made) -> None:
    """Where its heads have the same one; causal models shift labels themselves, and a span comes as two numbers."""
    batch = batch_of(made.data, np.arange(8), made.kind, CPU, 0)
    labels: dict[str, torch.Tensor] = {"labels": batch.labels}
    if KINDS[made.kind].per_token:
        mask = batch.inputs["attention_mask"].bool()
        padded = torch.full(mask.shape, IGNORED).masked_scatter(mask, batch.labels.long())
        labels = {"labels": padded}
        if made.kind == "causal-lm":
            labels = {"labels": torch.full(mask.shape, IGNORED).masked_scatter(mask, batch.inputs["input_ids"][mask])}
        if made.kind == "span":
            padded = padded.clamp(min=0)
            starts, ends = (padded & STARTS).argmax(1), (padded >> 1).argmax(1)
            labels = {"start_positions": starts, "end_positions": ends}
    with torch.no_grad():
        output = run(made.model, batch, **labels)
        logits = answers_of(output, batch.inputs, made.kind)
        mine = KINDS[made.kind].loss(logits, batch.labels, batch.lengths)
    if made.kind == "span":  # transformers lets padding have a share
        assert float(mine) < float(output.loss)
    elif made.kind == "causal-lm":  # the last token of an example has no label here, and none there
        last = np.cumsum(batch.lengths) - 1
        rest = np.setdiff1d(np.arange(len(logits)), last)
        theirs = torch.nn.functional.cross_entropy(logits[rest], batch.labels[rest].long())
        assert float(output.loss) == pytest.approx(float(theirs), rel=1e-5)
    else:
        assert float(mine) == pytest.approx(float(output.loss), rel=1e-5)


def test_a_teacher_is_followed(made: Made) -> None:
    """The distance to one's own answers is nothing, that to another's falls where only it is learnt."""
    kind, data = KINDS[made.kind], made.data
    other = copy.deepcopy(made.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.3)
    told = predict(other, made.kind, data, "fp32", teaching=True)
    assert told.shape == (len(data.labels), 2 * TOLD_TOKENS if made.kind == "causal-lm" else WIDTH.get(made.kind, 3))

    def distance(model: PreTrainedModel) -> float:
        batch = batch_of(data, np.arange(len(data)), made.kind, CPU, 0)
        with torch.no_grad():
            logits = answers_of(run(model, batch), batch.inputs, made.kind)
            return float(kind.distance(logits, torch.from_numpy(told[batch.units]), batch.labels, batch.lengths))

    assert distance(other) == pytest.approx(0, abs=1e-4)
    model = copy.deepcopy(made.model)
    before = distance(model)
    finetune(model, made.kind, RECIPE, data, teacher=Teacher(told, 1.0))
    assert 0 < distance(model) < 0.6 * before


def test_what_is_kept_comes_in_the_order_of_the_units(made: Made) -> None:
    kept = predict(made.model, made.kind, made.data, "fp32")
    assert kept.shape == (len(made.data.labels), WIDTH.get(made.kind, LABELS))
    for example in (0, 7, 39):
        batch = batch_of(made.data, np.array([example]), made.kind, CPU, 0)
        with torch.no_grad():
            logits = answers_of(run(made.model, batch), batch.inputs, made.kind)
        alone = KINDS[made.kind].kept(logits, batch.labels).numpy()
        np.testing.assert_allclose(kept[batch.units], alone, atol=1e-5)


def test_a_language_model_keeps_how_little_it_foresaw() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    kept = KINDS["causal-lm"].kept(logits, torch.tensor([0, 1, IGNORED]))[:, 0]
    assert kept.tolist() == pytest.approx([np.log(1 + np.exp(-2)), np.log(2), 0.0])


@pytest.mark.parametrize("kind", ["token-classification", "causal-lm"])
def test_a_batch_without_labels_costs_nothing(kind: KindName) -> None:
    logits, labels = torch.randn(4, 9, requires_grad=True), torch.full((4,), IGNORED)
    loss = KINDS[kind].loss(logits, labels, [4])
    apart = KINDS[kind].distance(logits, KINDS[kind].told(logits.detach(), labels), labels, [4])
    (loss + apart).backward()  # type: ignore[no-untyped-call]
    assert loss.item() == apart.item() == 0.0
