"""Fine-tuning and scoring on a tiny model: it learns, it repeats itself, and it says when numbers are lost."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from layersearch.errors import TrainingError
from layersearch.models.base import BaseModel, load_base
from layersearch.tasks.task import Encoded, Task
from layersearch.training.batches import Batch
from layersearch.training.finetune import Scores, begin, finetune, measure, predict
from layersearch.training.recipe import Recipe
from layersearch.training.steps import Training, has_bf16, resolve_precision
from tests.training.conftest import RECIPE

Data = dict[str, Encoded]


def fresh(base: BaseModel) -> PreTrainedModel:
    return copy.deepcopy(base.model)


def scored(model: PreTrainedModel, task: Task, recipe: Recipe, train: Encoded, held_out: Encoded) -> Scores:
    return measure(begin(model, task.kind, recipe, train), task, held_out, 1.0, lambda _: None)


def weights(model: PreTrainedModel) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_the_loss_falls_and_the_score_rises_on_what_can_be_learned(base: BaseModel, task: Task, data: Data) -> None:
    model = fresh(base)
    before = task.score(predict(model, "classification", data["validation"], "fp32"), data["validation"])["accuracy"]
    scores = scored(model, task, RECIPE.with_(epochs=20, learning_rate=1e-2), data["train"], data["validation"])
    assert before < 0.75
    assert scores.metrics["accuracy"] >= 0.9
    assert scores.train_loss < 0.1 < math.log(2)
    assert scores.interval[0] <= scores.metrics["accuracy"] <= scores.interval[1]
    assert scores.examples == 20 * len(data["train"])
    assert min(scores.train_seconds, scores.score_seconds) > 0


def test_one_seed_gives_one_set_of_weights_and_another_seed_another(base: BaseModel, data: Data) -> None:
    models = [fresh(base) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        finetune(model, "classification", RECIPE.with_(seed=seed), data["train"])
    first, same, other = map(weights, models)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_batch_in_pieces_teaches_what_the_whole_batch_does(
    base: BaseModel, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for tokens in (10**6, 30):  # the whole batch; pieces of one and two examples
        monkeypatch.setattr("layersearch.training.steps.TOKENS", tokens)
        seen: list[int] = []
        model = fresh(base)
        model.register_forward_pre_hook(
            lambda _m, _args, kwargs, to=seen: to.append(len(kwargs["input_ids"])), with_kwargs=True
        )
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # it draws other numbers for pieces
        loss = finetune(model, "classification", RECIPE.with_(epochs=1, batch_size=7), data["train"])
        found[tokens] = (loss, weights(model), seen)
    whole, pieces = found[10**6], found[30]
    assert sum(whole[2]) == sum(pieces[2]) == len(data["train"])
    assert len(pieces[2]) > 2 * len(whole[2])
    assert pieces[0] == pytest.approx(whole[0], rel=1e-4)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(whole[1], pieces[1], strict=True))


def test_a_loss_that_is_no_mean_over_examples_takes_the_whole_batch(
    base: BaseModel, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.training.steps.TOKENS", 30)
    sizes: dict[bool, list[int]] = {False: [], True: []}
    for whole, seen in sizes.items():

        def backward(batch: Batch, factor: float, seen: list[int] = seen) -> torch.Tensor:
            seen.append(len(batch.labels))
            return torch.tensor(factor)

        recipe = RECIPE.with_(epochs=1)
        Training(fresh(base), "classification", recipe, data["train"], backward, whole=whole).advance(1.0)
    assert set(sizes[True]) == {RECIPE.batch_size}
    assert max(sizes[False]) < RECIPE.batch_size


@pytest.mark.parametrize(("epochs", "steps"), [(1.0, 6), (0.5, 3), (0.01, 1), (1.2, 8)])
def test_epochs_may_be_fractions(base: BaseModel, data: Data, epochs: float, steps: int) -> None:
    assert len(data["train"]) == 48
    shares: list[float] = []
    finetune(fresh(base), "classification", RECIPE.with_(epochs=epochs), data["train"], shares.append)
    assert len(shares) == steps
    assert shares[-1] == 1.0
    assert shares == sorted(shares)


def test_the_learning_rate_falls_to_zero_so_weights_stand_still_at_the_end(base: BaseModel, data: Data) -> None:
    model, moves, last = fresh(base), [], weights(base.model)

    def watch(_share: float) -> None:
        nonlocal last
        now = weights(model)
        moves.append(max(float((a - b).abs().max()) for a, b in zip(now, last, strict=True)))
        last = now

    finetune(model, "classification", RECIPE.with_(warmup=0.5), data["train"], watch)
    assert moves[0] == 0.0  # the warm-up starts from nothing
    assert moves[-1] < max(moves) / 4


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_step(base: BaseModel, data: Data) -> None:
    model = fresh(base)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    message = r"the loss is nan at step 16: the training diverged; try a lower learning rate"
    with pytest.raises(TrainingError, match=message):
        finetune(model, "classification", RECIPE, data["train"])


def test_a_loss_that_overflows_is_an_error(numbers: PreTrainedModel, data: Data) -> None:
    with torch.no_grad():
        numbers.get_parameter("classifier.bias").fill_(1e30)
    with pytest.raises(TrainingError, match=r"the loss is (inf|nan) at step 3: the training diverged"):
        finetune(numbers, "regression", RECIPE.with_(epochs=0.5), data["train"])


def test_logits_that_are_not_finite_are_counted_not_scored(base: BaseModel, data: Data) -> None:
    """The argmax of NaN is class 0, which would score as well as a guess."""
    model = fresh(base)
    with torch.no_grad():
        model.get_parameter("classifier.bias")[0] = math.inf
    n = len(data["search"])
    with pytest.raises(
        TrainingError, match=f"{n} of {n} examples got logits that are not finite: .*; try a lower learning rate$"
    ):
        predict(model, "classification", data["search"], "fp32")


def test_a_metric_that_is_not_finite_is_an_error(
    base: BaseModel, task: Task, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(task), "score", lambda *_: {"accuracy": math.nan})
    with pytest.raises(TrainingError, match=r"accuracy is nan on \d+ examples; try a lower learning rate$"):
        scored(fresh(base), task, RECIPE.with_(epochs=0.1), data["train"], data["search"])


def test_predictions_come_in_the_order_of_the_examples(base: BaseModel, data: Data) -> None:
    part = data["validation"]
    logits = predict(fresh(base), "classification", part, "fp32")
    for i in (0, 7, len(part) - 1):
        tokens = part.input_ids[part.offsets[i] : part.offsets[i + 1]].astype(np.int64)
        with torch.no_grad():
            alone = base.model(input_ids=torch.from_numpy(tokens)[None]).logits[0]
        np.testing.assert_allclose(logits[i], alone.numpy(), atol=1e-5)


@pytest.fixture
def numbers(tiny_model: Path) -> PreTrainedModel:
    """The tiny model with a head for one number."""
    return load_base(tiny_model, num_labels=1, kind="regression").model


def test_regression_learns_a_number(numbers: PreTrainedModel, data: Data) -> None:
    train = dataclasses.replace(data["train"], labels=data["train"].labels.astype(np.float32) * 2)
    loss = finetune(numbers, "regression", RECIPE.with_(epochs=20, learning_rate=1e-2), train)
    values = predict(numbers, "regression", train, "fp32")
    assert values.shape == (len(train), 1)
    assert loss < 0.3  # guessing the mean costs 1
    assert np.corrcoef(values[:, 0], train.labels)[0, 1] > 0.9


def test_precision_is_what_the_recipe_says_and_auto_asks_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert resolve_precision(RECIPE.with_(precision="bf16"), cpu) == "bf16"
    assert resolve_precision(RECIPE.with_(precision="fp32"), cpu) == "fp32"
    for able, wanted in (({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"avx2": True, "bf16": False}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert resolve_precision(RECIPE.with_(precision="auto"), cpu) == wanted
    assert not has_bf16(torch.device("meta"))


def test_bf16_learns_too_and_keeps_fp32_weights(base: BaseModel, task: Task, data: Data) -> None:
    model = fresh(base)
    scores = scored(
        model, task, RECIPE.with_(epochs=20, learning_rate=1e-2, precision="bf16"), data["train"], data["validation"]
    )
    assert scores.precision == "bf16"
    assert scores.metrics["accuracy"] >= 0.9
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
