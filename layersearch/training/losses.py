"""What a batch's answers cost: against labels, and against the answers of a larger model.

Knows: tensors of logits. Does not know: models, recipes, tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

TEMPERATURE = 2.0  # softens a teacher's distribution
Kind = Literal["classification", "regression"]


def label_loss(logits: torch.Tensor, labels: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Cross-entropy for classification, mean squared error for regression, in fp32."""
    import torch.nn.functional as functional

    if kind == "regression":
        return functional.mse_loss(logits.float().squeeze(-1), labels)
    return functional.cross_entropy(logits.float(), labels)


def distance(logits: torch.Tensor, told: torch.Tensor, kind: Kind) -> torch.Tensor:
    """How far `logits` are from those of a teacher: squared error, or for classification the divergence from its
    softened distribution, times the square of the temperature (Hinton et al., arXiv 1503.02531)."""
    import torch.nn.functional as functional

    if kind == "regression":
        return functional.mse_loss(logits.float(), told)
    ours, theirs = (functional.log_softmax(x.float() / TEMPERATURE, dim=-1) for x in (logits, told))
    return functional.kl_div(ours, theirs, log_target=True, reduction="batchmean") * TEMPERATURE**2
