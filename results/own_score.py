"""What the weights of a checkpoint score on the official validation set, which neither training nor search saw.

Knows: a checkpoint's folder and an evaluator. Does not know: where the checkpoint comes from.
"""

from __future__ import annotations

from pathlib import Path

from layersearch.models import checkpoint
from layersearch.training.evaluator import Evaluator
from layersearch.training.finetune import predict
from layersearch.training.steps import resolve_precision


def own_score(folder: Path, evaluator: Evaluator) -> float:
    """The task's metric of the candidate in `folder`."""
    model = checkpoint.load(folder)[0]
    data = evaluator.data["validation"]
    logits = predict(model, evaluator.task.kind, data, resolve_precision(evaluator.recipe, model.device))
    return float(evaluator.task.score(logits, data)[evaluator.task.metric])
