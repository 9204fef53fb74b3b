"""What a head answers, how that is learnt, and what is kept of it: one row for each kind of task.

Knows: logits, labels, and the classes of transformers by name. Does not know: models, tasks, recipes, patterns. A new
kind is one row of `KINDS`. Loads torch only when a function is called.

A batch's logits come as [units, width]. A unit is an example, or in the kinds of tokens a token: those of one example
after those of the other, without padding. `lengths` are the tokens of each example then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TEMPERATURE = 2.0  # softens a teacher's distribution
TOLD_TOKENS = 8  # the likeliest next tokens that are kept of a language model's answer for whom it teaches
IGNORED = -100  # the label of a token that is neither learnt nor scored
STARTS, ENDS = 1, 2  # bits of a token's label where a span starts, and where it ends
_NEVER = -1e4  # the logit of a place that is none; minus infinity would give 0 times infinity

KindName = Literal[
    "classification", "regression", "multi-label", "image-classification", "token-classification", "span", "causal-lm"
]


def _largest(kept: NDArray[np.float32]) -> NDArray[Any]:
    return np.asarray(kept.argmax(axis=1))


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    `head` is the class of transformers that has the head, `problem` its `problem_type`, `reader` the class that makes
    its inputs, `pipeline` the hub's word for it. `labelled`: the outputs of the head are the task's labels.
    `loss(logits, labels, lengths)` is what answers cost, a mean over units. `told(logits, labels)` is kept of a larger
    model's answers, a row a unit; `distance(logits, told, labels, lengths)` is how far others are from those.
    `kept(logits, labels)` is what a score is made of, a row a unit. `starts_at_mean`: a fresh head starts at the mean
    of the labels. `by_example`: loss and distance are means over examples, so that those of a batch's pieces add up to
    the batch's; else over as many tokens as have labels. `outputs` says in words what the head answers where its
    outputs have no names. `decide` makes predictions [units] of what is kept, for the metrics.
    """

    head: str
    pipeline: str
    loss: Callable[[Tensor, Tensor, Sequence[int]], Tensor]
    distance: Callable[[Tensor, Tensor, Tensor, Sequence[int]], Tensor]
    told: Callable[[Tensor, Tensor], Tensor]
    kept: Callable[[Tensor, Tensor], Tensor]
    problem: str | None = None
    per_token: bool = False
    labelled: bool = True
    starts_at_mean: bool = False
    by_example: bool = True
    reader: str = "AutoTokenizer"
    outputs: str = "one number"
    decide: Callable[[NDArray[np.float32]], NDArray[Any]] = _largest


def answers_of(output: Any, inputs: Mapping[str, torch.Tensor], kind: KindName) -> torch.Tensor:
    """The logits [units, width] of a batch that ran with `inputs`; those of start and end of a span side by side."""
    import torch

    logits: torch.Tensor = (
        torch.stack((output.start_logits, output.end_logits), dim=-1) if "start_logits" in output else output.logits
    )
    return logits[inputs["attention_mask"].bool()] if KINDS[kind].per_token else logits


def logits_a_unit(config: Any, kind: KindName) -> int:
    """Logits of a unit where they take most of the memory: those of a language model's vocabulary; else 1."""
    return 1 if KINDS[kind].labelled else int(config.get_text_config().vocab_size)


def _cross_entropy(logits: Tensor, labels: Tensor, _: Sequence[int]) -> Tensor:
    import torch.nn.functional as functional

    return functional.cross_entropy(logits.float(), labels)


def _squared_error(logits: Tensor, labels: Tensor, _: Sequence[int]) -> Tensor:
    import torch.nn.functional as functional

    return functional.mse_loss(logits.float().squeeze(-1), labels)


def _binary_cross_entropy(logits: Tensor, labels: Tensor, _: Sequence[int]) -> Tensor:
    """Each label by itself: it is there, or it is not."""
    import torch.nn.functional as functional

    return functional.binary_cross_entropy_with_logits(logits.float(), labels)


def _token_cross_entropy(logits: Tensor, labels: Tensor, _: Sequence[int]) -> Tensor:
    """Cross-entropy over the tokens that have a label; 0 where none has."""
    import torch.nn.functional as functional

    there = labels != IGNORED
    total = functional.cross_entropy(logits[there].float(), labels[there].long(), reduction="sum")
    return total / there.sum().clamp(min=1)


def _span_loss(logits: Tensor, labels: Tensor, lengths: Sequence[int]) -> Tensor:
    """Mean cross-entropy of where the span starts and of where it ends, over the tokens of each example."""
    import torch
    import torch.nn.functional as functional

    marks = torch.nn.utils.rnn.pad_sequence([*torch.split(labels, list(lengths))], batch_first=True)
    places = torch.cat([(marks & STARTS).argmax(dim=1), (marks & ENDS).argmax(dim=1)])
    return functional.cross_entropy(_over_tokens(logits, lengths), places)


def _over_tokens(logits: Tensor, lengths: Sequence[int]) -> Tensor:
    """[2 x batch, longest]: the examples' logits of the start, then those of the end."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = pad_sequence([*torch.split(logits.float(), list(lengths))], batch_first=True, padding_value=_NEVER)
    return rows.movedim(-1, 0).flatten(0, 1)


def _divergence(logits: Tensor, told: Tensor, *_: object) -> Tensor:
    """From a teacher's softened distribution, times the temperature's square (Hinton et al., arXiv 1503.02531)."""
    import torch.nn.functional as functional

    ours, theirs = (functional.log_softmax(x.float() / TEMPERATURE, dim=-1) for x in (logits, told))
    return functional.kl_div(ours, theirs, log_target=True, reduction="batchmean") * TEMPERATURE**2


def _squared_distance(logits: Tensor, told: Tensor, *_: object) -> Tensor:
    import torch.nn.functional as functional

    return functional.mse_loss(logits.float(), told)


def _binary_divergence(logits: Tensor, told: Tensor, *_: object) -> Tensor:
    """The divergence of each label's softened yes and no, mean over labels."""
    import torch.nn.functional as functional

    ours, theirs = logits.float() / TEMPERATURE, told.float() / TEMPERATURE
    chances = theirs.sigmoid()
    cost, least = (functional.binary_cross_entropy_with_logits(x, chances) for x in (ours, theirs))
    return (cost - least) * TEMPERATURE**2


def _token_divergence(logits: Tensor, told: Tensor, labels: Tensor, _: Sequence[int]) -> Tensor:
    """The divergence over the tokens that have a label; 0 where none has."""
    there = labels != IGNORED
    return _divergence(logits[there], told[there]) if bool(there.any()) else 0.0 * logits.sum()


def _span_divergence(logits: Tensor, told: Tensor, _: Tensor, lengths: Sequence[int]) -> Tensor:
    """The divergence of the distributions of start and end over the tokens of each example."""
    return _divergence(_over_tokens(logits, lengths), _over_tokens(told, lengths))


def _likeliest(logits: Tensor, _: Tensor) -> Tensor:
    """Softened log-probabilities of the likeliest next tokens and which these are, float32 [tokens, 2 x TOLD_TOKENS].

    float32 holds whole numbers up to 16 million, and no vocabulary is as large.
    """
    import torch

    found = (logits.float() / TEMPERATURE).log_softmax(dim=-1).topk(min(TOLD_TOKENS, logits.shape[-1]), dim=-1)
    return torch.cat([found.values, found.indices.float()], dim=-1)


def _coarse_divergence(logits: Tensor, told: Tensor, labels: Tensor, _: Sequence[int]) -> Tensor:
    """The divergence where all tokens but the teacher's likeliest count as one; it is never above the whole one."""
    import torch

    there = labels != IGNORED
    theirs, places = told[there].chunk(2, dim=-1)
    ours = (logits[there].float() / TEMPERATURE).log_softmax(dim=-1).gather(-1, places.long())
    ours, theirs = (
        torch.cat([x, (1 - x.exp().sum(-1, keepdim=True)).clamp(min=1e-6).log()], -1) for x in (ours, theirs)
    )
    total = torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="sum")
    return total / there.sum().clamp(min=1) * TEMPERATURE**2


def _as_they_are(logits: Tensor, _: Tensor) -> Tensor:
    return logits.float()


def _surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of each token's label, float32 [tokens, 1]; 0 where it has none."""
    import torch.nn.functional as functional

    return functional.cross_entropy(logits.float(), labels.long(), ignore_index=IGNORED, reduction="none")[:, None]


_CLASSES = Kind(
    "AutoModelForSequenceClassification",
    "text-classification",
    _cross_entropy,
    _divergence,
    told=_as_they_are,
    kept=_as_they_are,
    problem="single_label_classification",
)

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "classification": _CLASSES,
        "regression": replace(
            _CLASSES,
            loss=_squared_error,
            distance=_squared_distance,
            problem="regression",
            starts_at_mean=True,
            decide=lambda kept: kept[:, 0],
        ),
        "multi-label": replace(
            _CLASSES,
            loss=_binary_cross_entropy,
            distance=_binary_divergence,
            problem="multi_label_classification",
            decide=lambda kept: (kept > 0).astype(np.int64),  # a chance above one half
        ),
        "image-classification": replace(
            _CLASSES,
            head="AutoModelForImageClassification",
            pipeline="image-classification",
            reader="AutoImageProcessor",
        ),
        "token-classification": Kind(
            "AutoModelForTokenClassification",
            "token-classification",
            _token_cross_entropy,
            _token_divergence,
            told=_as_they_are,
            kept=_as_they_are,
            per_token=True,
            by_example=False,
        ),
        "span": Kind(
            "AutoModelForQuestionAnswering",
            "question-answering",
            _span_loss,
            _span_divergence,
            told=_as_they_are,
            kept=_as_they_are,
            per_token=True,
            outputs="where the answer starts and where it ends",
        ),
        "causal-lm": Kind(
            "AutoModelForCausalLM",
            "text-generation",
            _token_cross_entropy,
            _coarse_divergence,
            told=_likeliest,
            kept=_surprise,
            per_token=True,
            by_example=False,
            labelled=False,
            outputs="the next token",
        ),
    }
)
