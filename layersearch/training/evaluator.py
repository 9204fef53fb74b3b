"""One job in, one outcome out: build a candidate from a pattern, fine-tune it, score it, keep weights that count.

Knows: a base model, encoded data and a recipe, loaded once per process. Does not know: who asks for the job (a loop, a
Ray worker) or where the outcome is stored. Jobs and outcomes are read where no model is (`layersearch front`), so torch
and all that needs it is imported by the evaluation only.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from layersearch.errors import LayersearchError, StoppedError
from layersearch.pattern import Pattern
from layersearch.tasks.task import Encoded, Task
from layersearch.training.finetune import Heartbeat, evaluate
from layersearch.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from layersearch.models.base import BaseModel

Split = Literal["search", "validation"]


@dataclass(frozen=True)
class Job:
    """One candidate to evaluate.

    `number` is the Optuna trial's, `scored_on` the split that scores it. `checkpoint` is the folder for its weights
    (None keeps none); they are written only if no point of `front` (score as a number to maximise, parameters) is
    at least as good in both.
    """

    number: int
    pattern: str
    seed: int
    scored_on: Split = "search"
    checkpoint: str | None = None
    front: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `score` and all that belongs to it, or the `reason` (one line) why there is none.

    `lost` says that the candidate itself is not to blame (a stop was asked for, or its process died: `died`) and may be
    tried again; `note` is a remark that the user should see. `versions` names the libraries that trained and scored,
    `ray_trial` the trial of Ray Tune that it was.
    Times are wall-clock seconds; `seconds` is all of the trial, from the job's start in the worker to its outcome.
    """

    number: int
    pattern: str
    seed: int
    score: float | None = None
    interval: tuple[float, float] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: int | None = None
    train_loss: float | None = None
    train_seconds: float = 0.0
    score_seconds: float = 0.0
    seconds: float = 0.0
    examples: int = 0
    precision: str | None = None
    versions: str | None = None
    ray_trial: str | None = None
    checkpoint: str | None = None
    note: str | None = None
    reason: str | None = None
    lost: bool = False
    died: bool = False
    trace: str | None = None

    def as_json(self) -> str:
        """One string, for a file or for Ray Tune (which flattens dictionaries)."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """The inverse of `as_json`."""
        values = json.loads(text)
        interval = values["interval"]
        return cls(**{**values, "interval": None if interval is None else tuple(interval)})


@dataclass(frozen=True)
class Evaluator:
    """Everything a worker needs to turn jobs into outcomes; `data` holds "train" and the splits that may score."""

    base: BaseModel
    task: Task
    recipe: Recipe
    data: Mapping[str, Encoded]
    device: str = "cpu"

    def __call__(self, job: Job, heartbeat: Heartbeat = lambda _: None) -> Outcome:
        """Evaluate `job`. A candidate's failure comes back as the outcome's reason; StoppedError passes through."""
        began = time.perf_counter()
        try:
            return self._evaluate(job, heartbeat, began)
        except StoppedError:
            raise
        except LayersearchError as error:
            return _failed(job, str(error), began)
        except Exception as error:  # the boundary: a bug in one candidate must not end the others
            import torch

            if isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError):
                raise  # the device's state is broken: this process can evaluate nothing any more
            if isinstance(error, MemoryError | torch.OutOfMemoryError):
                outcome = _failed(job, f"out of memory on {self.device}: start fewer workers or a smaller batch", began)
                return replace(outcome, lost=True, died=True)
            return _failed(job, f"{type(error).__name__}: {error}".splitlines()[0], began, traceback.format_exc())
        finally:
            self._give_memory_back()

    def _give_memory_back(self) -> None:
        """Let other workers on the same GPU have what this trial took."""
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _evaluate(self, job: Job, heartbeat: Heartbeat, began: float) -> Outcome:
        import torch

        from layersearch.models.base import reset_head, start_output_at
        from layersearch.models.surgery import build

        pattern = Pattern.parse(job.pattern)
        model = build(self.base.model, pattern)
        reset_head(model, self.base, job.seed)
        if self.task.kind == "regression":
            start_output_at(model, self.base, float(self.data["train"].labels.mean()))
        model.to(torch.device(self.device))  # type: ignore[arg-type]
        scores = evaluate(
            model, self.task, self.recipe.with_(seed=job.seed), self.data["train"], self.data[job.scored_on], heartbeat
        )
        outcome = Outcome(
            number=job.number,
            pattern=job.pattern,
            seed=job.seed,
            score=scores.metrics[self.task.metric],
            parameters=sum(p.numel() for p in model.parameters()),
            versions=_versions(),
            **vars(scores),
        )
        outcome = self._keep(job, outcome, model, pattern)
        return replace(outcome, seconds=time.perf_counter() - began)

    def _keep(self, job: Job, outcome: Outcome, model: PreTrainedModel, pattern: Pattern) -> Outcome:
        """Write the weights if the job has a place for them and the front has nothing as good."""
        from layersearch.models import checkpoint

        assert outcome.score is not None
        assert outcome.parameters is not None
        good = outcome.score if self.task.direction == "maximize" else -outcome.score
        beaten = any(other >= good and size <= outcome.parameters for other, size in job.front)
        if job.checkpoint is None or beaten:
            return outcome
        extras = {"trial": job.number, "seed": job.seed, "metrics": dict(outcome.metrics)}
        try:
            checkpoint.save(model, pattern, Path(job.checkpoint), source_layers=self.base.num_layers, extras=extras)
        except (LayersearchError, OSError) as error:  # a full disk must not cost a score that is paid for
            return replace(outcome, note=f"weights not kept: {error}".splitlines()[0])
        return replace(outcome, checkpoint=job.checkpoint)


@cache
def _versions() -> str:
    """The libraries that decide a score, as one line."""
    return ", ".join(f"{name} {version(name)}" for name in ("layersearch", "torch", "transformers", "numpy"))


def _failed(job: Job, reason: str, began: float, trace: str | None = None) -> Outcome:
    return Outcome(
        number=job.number,
        pattern=job.pattern,
        seed=job.seed,
        reason=reason,
        seconds=time.perf_counter() - began,
        trace=trace,
    )
