"""What a larger model tells smaller ones about the training examples: asked once, and kept beside its checkpoint.

Knows: the file of its answers. Does not know: who learns from them, how they count in a loss, when they are outdated.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.durable import whole_file
from layersearch.kinds import KindName
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import predict
from layersearch.training.steps import Heartbeat

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def told_in(folder: Path) -> Path:
    """Where the answers of the model in `folder` to the training examples lie, beside it."""
    return folder.with_name(f"{folder.name}-answers.npy")


def told_by(
    model: PreTrainedModel,
    folder: Path,
    kind: KindName,
    train: Encoded,
    precision: Literal["bf16", "fp32"],
    heartbeat: Heartbeat = lambda _: None,
) -> NDArray[np.float32]:
    """What `model`, which lies in `folder`, answers to the examples of `train`; written down for the next who asks.

    float32 [units, width], as the `kind` keeps it of one who teaches.
    """
    file = told_in(folder)
    if file.exists():
        return np.asarray(np.load(file), dtype=np.float32)
    answers = predict(model, kind, train, precision, heartbeat, teaching=True)
    with whole_file(file) as stream:
        np.save(stream, answers)
    return answers
