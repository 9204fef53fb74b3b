"""Zeros made while a candidate is trained: how many, where, by which gradients, and halted in between."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from layersearch.kinds import KINDS, answers_of
from layersearch.models import checkpoint
from layersearch.models.base import BaseModel, load_base, load_reader
from layersearch.models.matrices import count_weights, matrices_of, not_zero, zeros_in
from layersearch.models.surgery import build, layers_of, skeleton
from layersearch.pattern import Pattern
from layersearch.tasks import load_task
from layersearch.tasks.task import Encoded
from layersearch.training import paused
from layersearch.training.batches import batch_of
from layersearch.training.evaluator import Evaluator
from layersearch.training.finetune import begin
from layersearch.training.job import Job
from layersearch.training.recipe import preset
from layersearch.training.schedule import Sparsity, SparsityScope, zeros_among
from layersearch.training.sparsity import Thinning
from layersearch.training.steps import Training
from tests.models.conftest import minilm
from tests.models.tiny import TINY
from tests.models.tiny_decoders import DECODERS
from tests.training.conftest import RECIPE

__all__ = ["minilm"]
Data = dict[str, Encoded]
FAMILIES = {**TINY, **DECODERS}
METHODS = ("magnitude", "movement", "soft-movement")
SCOPES = ("local", "global")


def training(base: BaseModel, data: Data, pattern: str = "0-3", **words: Any) -> Training:
    recipe = RECIPE.with_(**{"sparsity": 0.6, **words})
    return begin(build(base.model, Pattern.parse(pattern)), "classification", recipe, data["train"])


def shares(model: PreTrainedModel) -> list[float]:
    return [float((matrix == 0).float().mean()) for matrix in matrices_of(model).values()]


def of(model: PreTrainedModel) -> float:
    zeros, weights = zeros_in(model)
    return zeros / weights


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("share", "pattern"), [(0.5, "0-3"), (0.333, "0 1a 2f 3"), (0.97, "0 0t 2 2"), (0.001, "1")])
def test_the_share_that_is_asked_for_is_reached(
    base: BaseModel, data: Data, method: str, scope: str, share: float, pattern: str
) -> None:
    words = {"sparsity": share, "sparsity_method": method, "sparsity_scope": scope, "epochs": 2.0}
    thinned = training(base, data, pattern, **words)
    thinned.advance(1.0)
    zeros, weights = zeros_in(thinned.model)
    assert zeros == round(share * weights)
    assert abs(zeros / weights - share) < 0.001  # a tenth of a point
    alone = shares(thinned.model)
    even = all(abs(one - share) <= 1 / 256 for one in alone)  # 256 weights in the smallest
    assert even == (scope == "local") or len(alone) == 1 or share < 0.01
    inside = {id(matrix) for matrix in matrices_of(thinned.model).values()}
    others = [p for p in thinned.model.parameters() if id(p) not in inside]
    assert sum(int((p == 0).sum()) for p in others) <= 16  # the padding token's row
    assert not_zero(thinned.model) == sum(int(torch.count_nonzero(p)) for p in thinned.model.parameters())


@pytest.mark.parametrize("method", ["magnitude", "movement"])
def test_the_share_grows_with_the_schedule_and_then_stays_where_it_is(base: BaseModel, data: Data, method: str) -> None:
    thinned = training(base, data, sparsity_method=method)
    zeros = thinned.recipe.zeros
    assert zeros is not None
    for step in range(1, 25):
        thinned.advance(step / 24)
        assert of(thinned.model) == pytest.approx(0.6 * zeros.grown(step, 24), abs=1e-3)
        if step == 19:
            masks = [matrix == 0 for matrix in matrices_of(thinned.model).values()]
    assert all(torch.equal(mask, m == 0) for mask, m in zip(masks, matrices_of(thinned.model).values(), strict=True))


def test_the_penalty_of_soft_movement_may_be_ahead_of_the_schedule_and_never_beyond_the_share(
    base: BaseModel, data: Data
) -> None:
    def course(penalty: float) -> list[float]:
        words = {"sparsity_lr": 0.5, "sparsity_penalty": penalty}
        thinned = training(base, data, "0-3", sparsity_method="soft-movement", **words)
        found = []
        for step in range(1, 25):
            thinned.advance(step / 24)
            found.append(of(thinned.model))
        return found

    hard, gentle = course(1e6), course(1e-9)
    zeros = RECIPE.with_(sparsity=0.6).zeros
    assert zeros is not None
    scheduled = [0.6 * zeros.grown(step, 24) for step in range(1, 25)]
    assert max(hard) <= 0.6 + 1e-3
    assert all(one >= least - 1e-3 for one, least in zip(hard, scheduled, strict=True))
    assert max(one - least for one, least in zip(hard, scheduled, strict=True)) > 0.01
    assert hard[-1] == gentle[-1] == pytest.approx(0.6, abs=1e-3)


def test_the_smallest_weights_go_by_magnitude(base: BaseModel, data: Data) -> None:
    """With a learning rate of next to nothing these are the smallest of the base model."""
    thinned = training(base, data, learning_rate=1e-12, weight_decay=0.0)
    before = {name: matrix.detach().clone() for name, matrix in matrices_of(thinned.model).items()}
    thinned.advance(1.0)
    for name, matrix in matrices_of(thinned.model).items():
        gone, left = before[name][matrix == 0].abs(), before[name][matrix != 0].abs()
        assert gone.max() <= left.min()


class _Passed(torch.autograd.Function):
    """A mask that hands its gradient on to the scores as if it were not there."""

    @staticmethod
    def forward(_: Any, score: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return mask + 0.0 * score

    @staticmethod
    def backward(_: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


class _Masked(nn.Module):
    def __init__(self, score: torch.Tensor, mask: torch.Tensor) -> None:
        super().__init__()
        self.score, self.mask = nn.Parameter(score.detach().clone()), mask.float()

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        masked: torch.Tensor = weight * _Passed.apply(self.score, self.mask)  # type: ignore[no-untyped-call]
        return masked


@pytest.mark.parametrize("method", ["movement", "soft-movement"])
def test_gradients_are_those_of_masked_weights_with_scores_in_the_graph(
    base: BaseModel, data: Data, method: str
) -> None:
    """The same by `torch.nn.utils.parametrize` and autograd, the penalty in the loss."""
    thinned = training(base, data, sparsity_method=method)
    thinned.advance(0.5)
    ours = thinned._thinning
    assert ours is not None
    model, row, named = thinned.model.eval(), KINDS["classification"], matrices_of(thinned.model)  # type: ignore[no-untyped-call]
    other = copy.deepcopy(model)
    parts = []
    for name, matrix in zip(named, ours._matrices, strict=True):
        assert matrix.whole is not None
        assert matrix.score is not None
        assert matrix.mask is not None
        path, _, leaf = name.rpartition(".")
        module = other.get_submodule(path)
        other.get_parameter(name).data.copy_(matrix.whole)
        parts.append(_Masked(matrix.score, matrix.mask))
        parametrize.register_parametrization(module, leaf, parts[-1])
    batch = batch_of(data["train"], torch.arange(8).numpy(), "classification", model.device, 0)

    def loss_of(of: PreTrainedModel) -> torch.Tensor:
        return row.loss(answers_of(of(**batch.inputs), batch.inputs, "classification"), batch.labels, batch.lengths)

    loss_of(model).backward()  # type: ignore[no-untyped-call]
    ours.spread()
    zeros = thinned.recipe.zeros
    assert zeros is not None
    pushed = torch.stack([part.score.sigmoid().mean() for part in parts]).mean()
    (loss_of(other) + zeros.penalty * zeros.grown(12, 24) * pushed).backward()  # type: ignore[no-untyped-call]
    for name, matrix, part in zip(named, ours._matrices, parts, strict=True):
        path, _, leaf = name.rpartition(".")
        theirs = other.get_submodule(path).parametrizations[leaf].original.grad
        assert matrix.score is not None
        torch.testing.assert_close(matrix.weight.grad, theirs)
        torch.testing.assert_close(matrix.score.grad, part.score.grad)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("method", METHODS)
def test_halted_training_gives_the_same_bits(
    base: BaseModel, data: Data, tmp_path: Path, method: str, share: float
) -> None:
    whole = training(base, data, sparsity_method=method)
    loss = whole.advance(1.0)
    halted = training(base, data, sparsity_method=method)
    halted.advance(share)
    paused.save(halted.state(), tmp_path / "state")
    halted = training(base, data, sparsity_method=method)
    halted.restore(paused.load(tmp_path / "state") or {})
    assert halted.advance(1.0) == loss
    pairs = zip(halted.model.state_dict().values(), whole.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_clipped_together_with_the_model(base: BaseModel, data: Data, method: str) -> None:
    """As in the code of Sanh et al., where they are its parameters: the penalty's gradients count too."""
    words: dict[str, Any] = {"sparsity_penalty": 1e6} if method == "soft-movement" else {}
    thinned = training(base, data, sparsity_method=method, **words)
    thinned.advance(0.3)  # scores have gradients, and so has the penalty
    optimizer, seen = thinned._optimizer, list[torch.Tensor]()

    def look(*_: object) -> None:
        stepped = [p for group in optimizer.param_groups for p in group["params"]]
        seen.extend(p.grad for p in stepped if p.grad is not None)

    optimizer.register_step_pre_hook(look)
    thinned.advance(0.32)
    scored = sum(matrix.score is not None for matrix in thinned._thinning._matrices) if thinned._thinning else 0
    assert (scored > 0) == (method != "magnitude")
    assert len(seen) == scored + len(list(thinned.model.parameters()))
    assert float(torch.nn.utils.get_total_norm(seen)) <= RECIPE.max_grad_norm * 1.0001


def test_zeros_work_with_bf16_and_without_clipping(base: BaseModel, data: Data) -> None:
    recipe = replace(RECIPE, precision="bf16", max_grad_norm=0.0).with_(sparsity=0.5, sparsity_method="movement")
    thinned = begin(build(base.model, Pattern.full(4)), "classification", recipe, data["train"])
    thinned.advance(1.0)
    assert of(thinned.model) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", METHODS)
def test_the_share_is_reached_on_a_real_model(minilm: Path, method: str) -> None:
    task, recipe = load_task("demo", None), preset("demo").with_(epochs=0.1, sparsity=0.7, sparsity_method=method)
    splits = task.splits(0.15, 0)
    train = task.encode(splits.train, load_reader(minilm, task.kind), recipe.max_length)
    model = build(load_base(minilm, num_labels=2, kind="classification").model, Pattern.parse("0-3 4a 5"))
    begin(model, task.kind, recipe, train).advance(1.0)
    zeros, weights = zeros_in(model)
    assert weights == 6 * 4 * 384**2 + 5 * 2 * 384 * 1536
    assert zeros == round(0.7 * weights)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_matrices_of_every_family_get_their_zeros(name: str) -> None:
    entry = FAMILIES[name]
    model = entry.model()
    matrices = matrices_of(model)
    inside = {id(p) for layer in layers_of(model) for p in layer.parameters()}
    assert matrices
    for path, matrix in matrices.items():
        assert id(matrix) in inside
        assert matrix.dim() >= 2
        assert not any(part in path.lower() for part in ("norm", "bias", "embed")), path
    left_out = [p for p in model.parameters() if id(p) in inside - {id(m) for m in matrices.values()} and p.dim() > 1]
    assert all(min(p.shape) <= 8 for p in left_out)  # XLNet's biases a head, T5's a distance
    thinning = Thinning(model, Sparsity(0.5, "magnitude", "local", 0.0, 1.0), 4)
    for _ in range(4):
        thinning.lift()
        thinning.press()
    assert of(model) == pytest.approx(0.5, abs=1e-3)
    assert torch.isfinite(model(**entry.inputs()).logits).all()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_zeros_are_counted_to_a_weight_before_a_model_is_made(name: str, scope: SparsityScope) -> None:
    entry = FAMILIES[name]
    base = entry.model()
    counts = count_weights(skeleton(entry.heads[0], entry.config()))
    assert counts == count_weights(base)
    texts = [*entry.whole[:3], *(entry.halved[:3] if entry.halves else ()), *([] if entry.shared else ["0 0t 2-3"])]
    for text in texts:
        pattern = Pattern.parse(text)
        model = build(base, pattern)
        thinning = Thinning(model, Sparsity(0.337, "magnitude", scope, 0.0, 1.0), 2)
        for _ in range(2):
            thinning.lift()
            thinning.press()
        weights = pattern.parameters(counts)
        assert zeros_in(model) == (zeros_among(weights, 0.337), weights), text


def test_what_several_layers_share_counts_once() -> None:
    albert = TINY["albert"].model()
    assert len(matrices_of(albert)) == 6  # query, key, value, dense and two of the FFN
    bert = TINY["bert"].model()
    tied = build(bert, Pattern.parse("0 0t 1"))
    assert len(matrices_of(tied)) == 2 * 6
    assert sum(m.numel() for m in matrices_of(tied).values()) == zeros_in(tied)[1]


# -- in the evaluator --------------------------------------------------------------------------------------------------


def thinning(evaluator: Evaluator, **more: Any) -> Evaluator:
    return replace(evaluator, recipe=evaluator.recipe.with_(sparsity=0.5, sparsity_method="movement"), **more)


def test_an_outcome_tells_what_is_left_and_the_checkpoint_has_the_zeros(evaluator: Evaluator, tmp_path: Path) -> None:
    outcome = thinning(evaluator)(Job(0, "0 2a", 0, checkpoint=str(tmp_path / "kept")))
    assert outcome.reason is None, outcome.trace
    assert outcome.sparsity == pytest.approx(0.5, abs=1e-3)
    model, _ = checkpoint.load(tmp_path / "kept")
    zeros, weights = zeros_in(model)
    assert zeros / weights == outcome.sparsity
    assert not_zero(model) == outcome.non_zero
    assert outcome.parameters is not None
    assert outcome.non_zero is not None
    assert outcome.non_zero <= outcome.parameters - zeros
    assert not parametrize.is_parametrized(model)
    dense = evaluator(Job(0, "0 2a", 0))
    assert (dense.non_zero, dense.sparsity) == (None, None)
    assert dense.parameters == outcome.parameters


def test_candidates_of_every_method_get_zeros_and_what_they_start_from_does_not(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    work, whole, network = thinning(evaluator, warm=True), tmp_path / "whole", tmp_path / "super"
    unchanged = work(Job(0, "0-3", 0, checkpoint=str(whole)))
    assert unchanged.sparsity == pytest.approx(0.0, abs=1e-3)
    warm = work(Job(1, "0-1", 0, start=str(whole)))
    assert warm.sparsity == pytest.approx(0.5, abs=1e-3)
    shared = work(Job(-1, "0-3", 0, checkpoint=str(network), start=str(tmp_path / "gone"), patterns=("0-2", "1")))
    assert shared.reason is None, shared.trace
    assert of(checkpoint.load(network)[0]) < 1e-3
    tuned = work(Job(2, "0-1", 0, start=str(network), budget=0.3))
    assert tuned.sparsity == pytest.approx(0.5, abs=1e-3)


def test_layers_that_go_one_after_another_leave_the_zeros_to_the_last_part(evaluator: Evaluator) -> None:
    recipe = evaluator.recipe.with_(sparsity=0.5, drop_every=0.5, epochs=1.0)
    outcome = replace(evaluator, recipe=recipe)(Job(0, "0 3", 0))
    assert outcome.reason is None, outcome.trace
    assert outcome.sparsity == pytest.approx(0.5, abs=1e-3)


def test_a_candidate_put_down_at_rungs_ends_with_the_zeros_of_one_that_was_not(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    work = thinning(evaluator)
    plain = work(Job(0, "0-1 3", 5))
    job = Job(0, "0-1 3", 5, rungs=(0.25, 0.5, 1.0), state=str(tmp_path / "state"))
    first = next(work.course(job))
    second = next(work.course(replace(job, rungs=(0.5, 1.0))))
    *_, last = work.course(replace(job, rungs=(1.0,)))
    found = [outcome.sparsity or 0.0 for outcome in (first, second, last)]
    assert found == sorted(found)
    assert (last.score, last.train_loss, last.non_zero) == (plain.score, plain.train_loss, plain.non_zero)
