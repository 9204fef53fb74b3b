"""How much a model's layers and halves change what passes through them, by cosines and angles; and how large they are.

Knows: a model of the families table, encoded examples, hidden states before and after each half. Does not know: labels,
patterns, what the numbers are used for (`measured.py` spells patterns from them). Memory does not grow with the number
of examples: means are summed batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from layersearch.errors import ModelError
from layersearch.measured import Measured
from layersearch.models.surgery import family_in, layers_of, stacks_of
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate, scoring_order
from layersearch.training.finetune import pad_of
from layersearch.training.influence import as_batches, first_of, hidden_states, mask_of

BATCH = 16  # examples at once: the states of all halves are in memory together


def similarity(
    model: PreTrainedModel,
    encoded: Encoded,
    number: int | None = None,
    seed: int = 0,
    heartbeat: Callable[[float], None] = lambda _: None,
) -> Measured:
    """Measure `model` over `number` examples drawn with `seed`, or over all; fp32, forward passes only.

    Cosines of the first token (contribution, Sajjad et al., arXiv 2004.03844) and of all tokens (block influence, Men
    et al., arXiv 2403.03853) before and after each layer; 1 - cosine over all tokens for each half (Siddiqui et al.,
    arXiv 2407.16286); angular distances of the last token between any two places (Gromov et al., arXiv 2403.17887).
    Padding counts nowhere; where texts end together (XLNet), the last token stands for the first. The model is left in
    evaluation mode. `heartbeat` is told the share that is done. Raises ModelError for a model with two stacks.
    """
    if len(stacks_of(model)) > 1:
        raise ModelError(
            f"similarities are measured over one stack of layers, and this {model.config.model_type} model has an "
            "encoder and a decoder; choose strategies that are not measured"
        )
    chosen = np.random.default_rng(seed).permutation(len(encoded))[:number]
    model.eval()  # type: ignore[no-untyped-call]
    sums: _Sums | None = None
    family = family_in(model)
    order = scoring_order(encoded.lengths[chosen], BATCH)
    for done, places in enumerate(order, 1):
        inputs = collate(encoded, chosen[places], model.device, *pad_of(model))
        with torch.inference_mode(), hidden_states(model) as states:
            model(**inputs)
            laid = as_batches(states[0], states[0][0], family)
            found = _sums_of(laid, mask_of(inputs, states[0][0]), first_of(family))
        sums = found if sums is None else sums.plus(found)
        heartbeat(done / len(order))
    assert sums is not None
    return sums.means(*sizes_of(model))


def sizes_of(model: PreTrainedModel) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean absolute value and variance of each layer's weight matrices (biases and norms left out), lowest first.

    After the parameter-based ranking of Sajjad et al., arXiv 2004.03844 v3.
    """
    sizes, variances = [], []
    for layer in layers_of(model):
        flat = torch.cat([p.detach().float().flatten() for p in layer.parameters() if p.ndim > 1])
        sizes.append(float(flat.abs().mean()))
        variances.append(float(flat.var(correction=0)))
    return tuple(sizes), tuple(variances)


@dataclass(frozen=True)
class _Sums:
    """Sums over `examples` and their `tokens`, float64: [layers], [layers], [halves], [layers + 1, layers + 1]."""

    first: torch.Tensor
    every: torch.Tensor
    halves: torch.Tensor
    turned: torch.Tensor
    examples: int
    tokens: int

    def plus(self, other: _Sums) -> _Sums:
        """Both together."""
        return _Sums(**{name: value + vars(other)[name] for name, value in vars(self).items()})

    def means(self, sizes: tuple[float, ...], variances: tuple[float, ...]) -> Measured:
        """What they come to, with what is known of the weights."""
        halves = (self.halves / self.tokens).tolist()
        return Measured(
            first_token=tuple((self.first / self.examples).tolist()),
            all_tokens=tuple((self.every / self.tokens).tolist()),
            attention=tuple(halves[0::2]),
            ffn=tuple(halves[1::2]),
            apart=tuple(map(tuple, (self.turned / self.examples).tolist())),
            weight_size=sizes,
            weight_variance=variances,
        )


def _sums_of(states: list[torch.Tensor], mask: torch.Tensor, first: int) -> _Sums:
    """The sums of one batch: `states` [batch, longest, width] before the first layer and after every half.

    `first` is the place of the token that stands for a text.
    """
    layers = states[::2]
    cosines = [functional.cosine_similarity(a, b, dim=-1) for a, b in pairwise(layers)]
    apart = [1 - functional.cosine_similarity(a, b, dim=-1) for a, b in pairwise(states)]
    return _Sums(
        first=torch.stack([cosine[:, first].sum() for cosine in cosines]).double().cpu(),
        every=torch.stack([(cosine * mask).sum() for cosine in cosines]).double().cpu(),
        halves=torch.stack([(half * mask).sum() for half in apart]).double().cpu(),
        turned=_turned(layers, mask).double().cpu(),
        examples=len(mask),
        tokens=int(mask.sum()),
    )


def _turned(layers: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Angles between the last tokens' states at any two places, in half turns, summed over the batch [places, places].

    The last token is the last that is no padding, wherever the padding stands.
    """
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * places).argmax(dim=1)
    rows = torch.arange(len(mask), device=mask.device)
    tokens = functional.normalize(torch.stack([layer[rows, last] for layer in layers]).float(), dim=-1)
    cosines = torch.einsum("ibw,jbw->ijb", tokens, tokens).clamp(-1.0, 1.0)
    return (torch.arccos(cosines) / torch.pi).sum(dim=-1)
