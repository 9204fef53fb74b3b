"""Sparsity: weights of a candidate's matrices become exactly zero while it is trained.

Knows: the matrices of a model, masks over them, scores, gradients before a step. Does not know: what a loss is made
of, examples, files. A mask lies on the parameter itself between two steps, and its values without zeros come back for
the optimizer. So whatever uses a parameter (a linear layer, GPT-2's Conv1D, XLNet's einsum, a tied copy) sees zeros,
what is saved are plain tensors, and nothing has to be taken off at the end. `torch.nn.utils.parametrize` goes module
by module and keeps masked values in the graph; a test holds the gradients against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from layersearch.errors import TrainingError
from layersearch.models.matrices import matrices_of
from layersearch.training.schedule import THRESHOLD, Sparsity, zeros_among


@dataclass
class _Matrix:
    """One matrix: its parameter, its scores (None by magnitude), and once there are zeros its mask and whole values."""

    weight: nn.Parameter
    score: torch.Tensor | None
    mask: torch.Tensor | None = None
    whole: torch.Tensor | None = None

    @property
    def values(self) -> torch.Tensor:
        """The weights as they are without zeros."""
        return self.weight.detach() if self.whole is None else self.whole


class Thinning:
    """The zeros of one training of `steps` steps on `model`, in place.

    After every backward pass comes `spread`, before every step of the optimizer `lift`, behind it `press`. Between
    steps the model has its zeros. From the step on where the zeros end to grow they stay where they are, and what is
    left is trained on. Raises TrainingError for a model without matrices.
    """

    def __init__(self, model: PreTrainedModel, sparsity: Sparsity, steps: int) -> None:
        scored = sparsity.method != "magnitude"
        weights = [weight for weight in matrices_of(model).values() if weight.requires_grad]
        if not weights:
            raise TrainingError("this candidate has no matrix whose weights could become zero; leave --sparsity out")
        self._matrices = [_Matrix(w, torch.zeros_like(w, requires_grad=True) if scored else None) for w in weights]
        self._sparsity, self._steps, self._step = sparsity, steps, 0
        self._renewals = sparsity.renewals(steps)
        self._last = sparsity.span(steps)[1]

    def groups(self) -> list[dict[str, Any]]:
        """The scores as the optimizer takes them: without decay, at a learning rate of their own.

        Their gradients are clipped together with the model's, by one norm over both: in the code of Sanh et al. the
        scores are parameters of the model, and `clip_grad_norm_` takes all of these (huggingface/transformers @
        00e12e7, examples/research_projects/movement-pruning/masked_run_glue.py).
        """
        scores = [matrix.score for matrix in self._matrices if matrix.score is not None]
        return [{"params": scores, "lr": self._sparsity.rate, "weight_decay": 0.0}] if scores else []

    def spread(self) -> None:
        """Give scores their gradients, and masked weights none.

        A weight that is masked passes what its place would have got on to its score as if it were not (Sanh et al.,
        arXiv 2005.07683, section 4): the gradient times the weight.
        """
        scored = self._step < self._last
        for matrix in self._matrices:
            gradient = matrix.weight.grad
            if gradient is None:
                continue
            if matrix.score is not None and scored:
                matrix.score.grad = gradient * matrix.values + self._pushed(matrix.score)
            if matrix.mask is not None:
                gradient.mul_(matrix.mask)

    @torch.no_grad()
    def _pushed(self, score: torch.Tensor) -> torch.Tensor | float:
        """The gradient of the penalty on a matrix' scores: the mean sigmoid of each matrix, averaged over matrices.

        It grows with the share, as in the code of Sanh et al.
        """
        if not self._sparsity.penalty:
            return 0.0
        weight = self._sparsity.penalty * self._sparsity.grown(self._step, self._steps)
        chance = score.sigmoid()
        return chance * (1 - chance) * (weight / (score.numel() * len(self._matrices)))

    @torch.no_grad()
    def lift(self) -> None:
        """Put whole values in the place of zeros, for the optimizer."""
        for matrix in self._matrices:
            if matrix.whole is not None:
                matrix.weight.copy_(matrix.whole)

    @torch.no_grad()
    def press(self) -> None:
        """Behind a step: choose the zeros anew where it is time for that, and put them in their places."""
        self._step += 1
        renewed = self._step in self._renewals
        for matrix in self._matrices:
            if matrix.whole is not None:
                matrix.whole.copy_(matrix.weight)
            elif renewed:
                matrix.whole = matrix.weight.detach().clone()
        if renewed:
            self._renew()
        for matrix in self._matrices:
            if matrix.mask is not None:
                matrix.weight.mul_(matrix.mask)

    def _renew(self) -> None:
        ranked = [matrix.values.abs() if matrix.score is None else matrix.score.detach() for matrix in self._matrices]
        groups = [ranked] if self._sparsity.scope == "global" else [[values] for values in ranked]
        masks = (
            mask for group, number in zip(groups, self._numbers(groups), strict=True) for mask in _kept(group, number)
        )
        for matrix, mask in zip(self._matrices, masks, strict=True):
            matrix.mask = mask

    def _numbers(self, groups: Sequence[Sequence[torch.Tensor]]) -> list[int]:
        """How many weights of each group are zero from here on; what rounding leaves of one, the next one gets.

        Soft movement: those whose scores the penalty has brought under the threshold, but no fewer than the schedule
        has now, and no more than shall be zero at the end.
        """
        grown, share = self._sparsity.grown(self._step, self._steps), self._sparsity.share
        sizes = [sum(values.numel() for values in group) for group in groups]
        now, most = (_parts(sizes, grown * share), _parts(sizes, share))
        if not self._sparsity.penalty:
            return now
        under = [sum(int((values.sigmoid() < grown * THRESHOLD).sum()) for values in group) for group in groups]
        return [min(top, max(least, low)) for top, least, low in zip(most, now, under, strict=True)]

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here."""
        return {name: [getattr(matrix, name) for matrix in self._matrices] for name in ("score", "mask", "whole")}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Be where the training was, behind `step`, whose `state` this is."""
        self._step = step
        for place, matrix in enumerate(self._matrices):
            score, mask, whole = (state[name][place] for name in ("score", "mask", "whole"))
            if matrix.score is not None:
                matrix.score.copy_(score)
            matrix.mask = None if mask is None else mask.to(matrix.weight.device)
            matrix.whole = None if whole is None else whole.to(matrix.weight.device)


def _parts(sizes: Sequence[int], share: float) -> list[int]:
    """`share` of each of `sizes`, in whole numbers that differ from it by less than one in all."""
    ends, total = [0], 0
    for size in sizes:
        total += size
        ends.append(zeros_among(total, share))
    return [end - begin for begin, end in pairwise(ends)]


def _kept(group: Sequence[torch.Tensor], number: int) -> list[torch.Tensor]:
    """Masks over a group that leave out its `number` lowest values."""
    flat = torch.cat([values.flatten() for values in group])
    mask = torch.ones_like(flat, dtype=torch.bool)
    mask[flat.topk(number, largest=False, sorted=False).indices] = False
    parts = torch.split(mask, [values.numel() for values in group])
    return [part.view_as(values).clone() for part, values in zip(parts, group, strict=True)]
