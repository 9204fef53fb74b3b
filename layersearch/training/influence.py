"""How much each half of a layer does in a fine-tuned model, measured once, by three cheap scores.

Knows: a model of the families table, labelled examples, hooks on the halves. Does not know: patterns, what the figures
are used for, whether they are worth anything (`search/cheap.py` asks the study).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from layersearch.kinds import KINDS, KindName, answers_of
from layersearch.models.families import Family, Stack
from layersearch.models.surgery import family_in, layers_of, stacks_of
from layersearch.tasks.task import Encoded
from layersearch.training.batches import batch_of, scoring_order
from layersearch.training.steps import pad_of

MOST_EXAMPLES = 256
SHARE = 0.05  # of a fine-tuning's work, the most that measuring may cost


def examples_for(count: int, epochs: float) -> int:
    """How many of `count` training examples are measured: MOST_EXAMPLES, or fewer where training itself is short."""
    return max(1, min(MOST_EXAMPLES, count, int(SHARE * count * epochs)))


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

    Where texts end together (XLNet), the last token stands for the first. A layer without halves has all its influence
    under its attention half. The model is left in evaluation mode. Its weights do not change.
    """
    chosen = np.random.default_rng(seed).permutation(len(encoded))[:number]
    model.eval()  # type: ignore[no-untyped-call]
    sums = torch.zeros(3, 2 * len(layers_of(model)), dtype=torch.float64)
    tokens = 0
    for places in scoring_order(encoded.lengths[chosen], batch_size):
        indices = chosen[places]
        batch = batch_of(encoded, indices, kind, model.device, *pad_of(model))
        with hidden_states(model) as states:
            logits = answers_of(model(**batch.inputs), batch.inputs, kind)
        loss = KINDS[kind].loss(logits, batch.labels, batch.lengths) * len(indices)
        gradients = iter(torch.autograd.grad(loss, [state for own in states for state in own[1:]]))
        mask = mask_of(batch.inputs, states[0][0])
        sums += torch.cat([_sums(own, gradients, mask, family_in(model)) for own in states], dim=1).cpu()
        tokens += int(mask.sum())
    means = sums / torch.tensor([[tokens], [len(chosen)], [len(chosen)]])
    return dict(zip(("block", "token", "gradient"), means.tolist(), strict=True))


def mask_of(inputs: Mapping[str, torch.Tensor], state: torch.Tensor) -> torch.Tensor:
    """1 for each token that is no padding, [batch, longest]; images have none in `state` [batch, longest, width]."""
    mask = inputs.get("attention_mask")
    return torch.ones(state.shape[:2], dtype=torch.int64, device=state.device) if mask is None else mask


def as_batches(states: Sequence[torch.Tensor], like: torch.Tensor, family: Family) -> list[torch.Tensor]:
    """The states as [batch, longest, width], however the family lays those before its first layer, such as `like`."""
    laid = [state.reshape(like.shape) for state in states]
    return [state.transpose(0, 1) for state in laid] if family.length_first else laid


def first_of(family: Family) -> int:
    """The place of the token that stands for a text: the first, or the last where texts end together (XLNet)."""
    return -1 if family.pads_left else 0


def turned(
    before: torch.Tensor, after: torch.Tensor, mask: torch.Tensor, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 - cosine of two states [batch, longest, width], summed over the tokens that `mask` counts, and over the texts'.

    `first` is the place of the token that stands for a text.
    """
    apart = 1 - functional.cosine_similarity(before, after, dim=-1)
    return (apart * mask).sum(), apart[:, first].sum()


def _sums(
    states: list[torch.Tensor], gradients: Iterator[torch.Tensor], mask: torch.Tensor, family: Family
) -> torch.Tensor:
    """The three measures of a stack, summed over the tokens or the examples of a batch, float64 [3, halves].

    A decoder that reads the input once more has the encoder's tokens, one place on. OPT has its tokens in one row
    between its halves.
    """
    columns = []
    for before, after in pairwise(as_batches(states, states[0], family)):
        gradient = as_batches([next(gradients)], states[0], family)[0]
        change = (gradient * (after - before)).sum(dim=(1, 2))  # padding has no gradient
        block, token = turned(before, after, mask, first_of(family))
        columns.append(torch.stack([block, token, change.abs().sum()]))
    return torch.stack(columns, dim=1).detach().double()


@contextmanager
def hidden_states(model: PreTrainedModel) -> Iterator[list[list[torch.Tensor]]]:
    """The hidden states of the next run, a list a stack: before its first layer, then after every half.

    [batch, longest, width], or as the family lays them; of a layer without halves the last ones twice.
    """
    stacks = stacks_of(model)
    states: list[list[torch.Tensor]] = [[] for _ in stacks]
    with ExitStack() as hooks:
        for (layers, row), own in zip(stacks, states, strict=True):
            for layer in dict.fromkeys(layers):
                for handle in _listened(layer, row, own):
                    hooks.callback(handle.remove)
        yield states


def _listened(layer: nn.Module, row: Stack, states: list[torch.Tensor]) -> Iterator[Any]:
    """Handles of hooks on one layer: on its input, if it is the first to run, what its FFN half gets, and its output.

    The first module of the FFN half that runs gets what the attention half has left, whether norms stand before or
    after.
    """
    ended = 0

    def before(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal ended
        if not states:
            states.append(args[0])
        ended = len(states) + 1

    def between(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if len(states) < ended:
            states.append(args[0])

    def after(_: nn.Module, __: object, answer: Any) -> None:
        states.extend([answer[0] if isinstance(answer, tuple) else answer] * (1 if row.ffn else 2))

    yield layer.register_forward_pre_hook(before)
    for path, _ in row.ffn:
        yield layer.get_submodule(path).register_forward_pre_hook(between)
    yield layer.register_forward_hook(after)
