"""A candidate before its first step: over pre-trained weights, or over those of a larger model that teaches it.

Knows: a base model, training examples, the recipe, where a larger model lies. Does not know: how a candidate is
trained and scored, studies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layersearch.kinds import KINDS, KindName
from layersearch.pattern import Pattern, thirds
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import Teacher
from layersearch.training.freezing import freeze
from layersearch.training.job import Job
from layersearch.training.recipe import OneShotRecipe, Recipe
from layersearch.training.steps import Heartbeat, resolve_precision
from layersearch.training.told import told_by, told_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from layersearch.models.base import BaseModel


@dataclass(frozen=True)
class Candidates:
    """What candidates of one task are made of.

    `warm`: the candidates start from the fine-tuned unchanged model or learn from it, so that one gets no zeros.
    """

    base: BaseModel
    kind: KindName
    train: Encoded
    recipe: Recipe
    device: str
    one_shot: OneShotRecipe
    warm: bool = False

    def fresh(self, job: Job, pattern: Pattern) -> tuple[PreTrainedModel, Recipe, None]:
        """The candidate over pre-trained weights, with a new head."""
        import torch

        from layersearch.models.base import reset_head, start_output_at
        from layersearch.models.surgery import build

        model = build(self.base.model, pattern, self.recipe.mixing)
        reset_head(model, self.base, job.seed)
        if KINDS[self.kind].starts_at_mean:
            start_output_at(model, self.base, float(self.train.labels.mean()))
        freeze(model, pattern, self.recipe.freeze)
        model.to(torch.device(self.device))  # type: ignore[arg-type]
        recipe = self.recipe.dense if self.warm else self.recipe
        return model, recipe.with_(seed=job.seed), None

    def taught(
        self, job: Job, pattern: Pattern, heartbeat: Heartbeat
    ) -> tuple[PreTrainedModel, Recipe, Teacher | None]:
        """The candidate over the weights of the larger model in the job's `start`, and that model as its teacher.

        Over pre-trained weights where the recipe says so. Where a teacher's part in the loss is 0 there is none.
        """
        import torch

        from layersearch.models import checkpoint
        from layersearch.models.surgery import build

        assert job.start is not None
        larger, _ = checkpoint.load(Path(job.start))
        larger.to(torch.device(self.device))  # type: ignore[arg-type]
        epochs = self.recipe.epochs
        if job.budget is not None:
            epochs *= job.budget * 3 * self.base.num_layers / thirds(pattern.blocks)
        if self.recipe.start_weights == "pre-trained":
            model = self.fresh(job, pattern)[0]
        else:
            model = build(larger, pattern, self.recipe.mixing, "last")
            freeze(model, pattern, self.recipe.freeze)
        return model, self.recipe.with_(seed=job.seed, epochs=epochs), self._teacher(larger, job, pattern, heartbeat)

    def _teacher(self, larger: PreTrainedModel, job: Job, pattern: Pattern, heartbeat: Heartbeat) -> Teacher | None:
        weight, teach = self.one_shot.taught, self.recipe.teach
        if not weight:
            return None
        from layersearch.training.hidden import Leader

        told = self.told(larger, Path(str(job.start)), heartbeat) if "logits" in teach else None
        leader = Leader(larger.eval(), pattern) if "hidden" in teach else None  # type: ignore[no-untyped-call]
        return Teacher(told, weight, leader)

    def told(self, model: PreTrainedModel, folder: Path, heartbeat: Heartbeat) -> NDArray[np.float32]:
        """What `model`, which lies in `folder`, answers to the training examples."""
        precision = resolve_precision(self.recipe, model.device)
        return told_by(model, folder, self.kind, self.train, precision, heartbeat)

    def asks(self, job: Job) -> bool:
        """Whether the larger model in the job's `start` has still to be asked for its answers."""
        taught = job.start is not None and self.one_shot.taught > 0 and "logits" in self.recipe.teach
        return taught and not told_in(Path(str(job.start))).exists()

    def leads(self, job: Job) -> bool:
        """Whether the larger model runs beside the candidate, for its hidden states."""
        return job.start is not None and self.one_shot.taught > 0 and "hidden" in self.recipe.teach
