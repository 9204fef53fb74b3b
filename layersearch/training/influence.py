"""How much each half of a layer does in a fine-tuned model, measured once, by three cheap scores.

Knows: a model of the families table, labelled examples, hooks on the halves. Does not know: patterns, what the figures
are used for, whether they are worth anything (`search/cheap.py` asks the study).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from layersearch.kinds import KINDS, KindName, answers_of
from layersearch.models.families import Family, family_of
from layersearch.models.surgery import layers_of
from layersearch.tasks.task import Encoded
from layersearch.training.batches import batch_of, scoring_order
from layersearch.training.finetune import pad_of

EXAMPLES = 256
SHARE = 0.05  # of a fine-tuning's work, the most that measuring may cost


def examples_for(count: int, epochs: float) -> int:
    """How many of `count` training examples are measured: EXAMPLES, or fewer where training itself is short."""
    return max(1, min(EXAMPLES, count, int(SHARE * count * epochs)))


def influence(
    model: PreTrainedModel, kind: KindName, encoded: Encoded, number: int, batch_size: int, seed: int
) -> dict[str, list[float]]:
    """What dropping each half would change, by three measures, over `number` examples drawn with `seed`; fp32.

    Each list holds two figures a layer, its attention half and its FFN half, lowest layer first:

    - `block`: 1 - mean cosine of the hidden states before and after the half, over tokens (block influence, Men et al.,
      arXiv 2403.03853, for halves; Siddiqui et al., arXiv 2407.16286);
    - `token`: the same of the first token alone (contribution, Sajjad et al., arXiv 2004.03844);
    - `gradient`: the absolute first-order change of the loss when the half passes its input on, mean over examples: the
      gradient after the half times what the half changes, summed (Michel et al., arXiv 1905.10650, for heads).

    The model is left in evaluation mode. Its weights do not change.
    """
    chosen = np.random.default_rng(seed).permutation(len(encoded))[:number]
    model.eval()  # type: ignore[no-untyped-call]
    sums = torch.zeros(3, 2 * len(layers_of(model)), dtype=torch.float64)
    tokens = 0
    for places in scoring_order(encoded.lengths[chosen], batch_size):
        indices = chosen[places]
        batch = batch_of(encoded, indices, kind, model.device, pad_of(model))
        with hidden_states(model) as states:
            logits = answers_of(model(**batch.inputs), batch.inputs, kind)
        loss = KINDS[kind].loss(logits, batch.labels, batch.lengths) * len(indices)
        mask = batch.inputs.get(
            "attention_mask", torch.ones(states[0].shape[:2], device=model.device)
        )  # images have none
        sums += _sums(states, torch.autograd.grad(loss, states[1:]), mask).cpu()
        tokens += int(mask.sum())
    means = sums / torch.tensor([[tokens], [len(chosen)], [len(chosen)]])
    return dict(zip(("block", "token", "gradient"), means.tolist(), strict=True))


def _sums(states: list[torch.Tensor], gradients: tuple[torch.Tensor, ...], mask: torch.Tensor) -> torch.Tensor:
    """The three measures, summed over the tokens or the examples of a batch, float64 [3, halves]."""
    columns = []
    for before, after, gradient in zip(states, states[1:], gradients, strict=False):
        apart = 1 - functional.cosine_similarity(before, after, dim=-1)  # [batch, longest]
        change = (gradient * (after - before)).sum(dim=(1, 2))  # padding has no gradient
        columns.append(torch.stack([(apart * mask).sum(), apart[:, 0].sum(), change.abs().sum()]))
    return torch.stack(columns, dim=1).detach().double()


@contextmanager
def hidden_states(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """The hidden states [batch, longest, width] of the next run: before the first layer, then after every half."""
    states: list[torch.Tensor] = []
    with ExitStack() as hooks:
        for layer in layers_of(model):
            for handle in _listened(layer, family_of(model.config), states):
                hooks.callback(handle.remove)
        yield states


def _listened(layer: nn.Module, family: Family, states: list[torch.Tensor]) -> Iterator[Any]:
    """Handles of hooks on one layer: on its input, if it is the first to run, its attention half and its output."""

    def before(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if not states:
            states.append(args[0])

    def after(_: nn.Module, __: object, answer: Any) -> None:
        states.append(answer[0] if isinstance(answer, tuple) else answer)

    last_path, _ = family.attention[-1]
    yield layer.register_forward_pre_hook(before)
    yield layer.get_submodule(last_path).register_forward_hook(after)
    yield layer.register_forward_hook(after)
