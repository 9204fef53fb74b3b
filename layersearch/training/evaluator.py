"""One job in, one outcome out: build a candidate from a pattern, fine-tune it, score it, keep weights that count.

Knows: a base model, encoded data and a recipe, loaded once per process. Does not know: who asks for the job (a loop, a
Ray worker) or where the outcome is stored. Jobs and outcomes are read where no model is (`layersearch front`), so torch
and all that needs it is imported by the evaluation only.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from layersearch.errors import LayersearchError, StoppedError
from layersearch.pattern import Pattern, thirds
from layersearch.tasks.task import Encoded, Task
from layersearch.training.finetune import Heartbeat, Teacher, evaluate, finetune, predict, resolve_precision
from layersearch.training.recipe import OneShot, Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from layersearch.models.base import BaseModel

Split = Literal["search", "validation", "shared"]  # shared: the search split, over a super-network's weights


@dataclass(frozen=True)
class Job:
    """One candidate to evaluate.

    `number` is the Optuna trial's, `scored_on` the split that scores it. `checkpoint` is the folder for its weights
    (None keeps none); they are written only if no point of `front` (score as a number to maximise, parameters) is
    at least as good in both.

    `start` is the folder of a super-network: the candidate takes its weights from there and is taught by its answers.
    A job with `patterns` is no candidate: it trains the super-network into `checkpoint`, unless it is there, out of the
    fine-tuned unchanged model in `start` (fine-tuned now if it is not there), and `scores` the patterns over its
    weights.

    With `influence`, what each half of the fine-tuned layers does is measured too.
    """

    number: int
    pattern: str
    seed: int
    scored_on: Split = "search"
    checkpoint: str | None = None
    front: tuple[tuple[float, int], ...] = ()
    start: str | None = None
    patterns: tuple[str, ...] = ()
    scores: bool = True
    influence: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `score` and all that belongs to it, or the `reason` (one line) why there is none.

    `lost` says that the candidate itself is not to blame (a stop was asked for, or its process died: `died`) and may be
    tried again; `shared` holds the scores by pattern of a job that had `patterns`, `influence` what
    `training/influence.py` measures; `work` is what was run for the job
    in fine-tunings of the unchanged model (layers x examples, a backward pass counted twice); `note` is a remark that
    the user should see; `versions` names the libraries, `ray_trial` the trial of Ray Tune.
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
    work: float = 0.0
    shared: Mapping[str, float] = field(default_factory=dict)
    influence: Mapping[str, Sequence[float]] = field(default_factory=dict)
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
    """Everything a worker needs to turn jobs into outcomes; `data` holds "train" and the splits that may score.

    `one_shot` says how jobs with `start` or `patterns` are done.
    """

    base: BaseModel
    task: Task
    recipe: Recipe
    data: Mapping[str, Encoded]
    device: str = "cpu"
    one_shot: OneShot = field(default_factory=OneShot)

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
        if job.patterns:
            return self._share(job, heartbeat, began)
        pattern = Pattern.parse(job.pattern)
        model, recipe, teacher = self._fresh(job, pattern) if job.start is None else self._taught(job, pattern)
        scored = self.data[job.scored_on]
        scores = evaluate(model, self.task, recipe, self.data["train"], scored, heartbeat, teacher)
        outcome = Outcome(
            number=job.number,
            pattern=job.pattern,
            seed=job.seed,
            score=scores.metrics[self.task.metric],
            parameters=sum(p.numel() for p in model.parameters()),
            work=self._work(
                trained=thirds(pattern.blocks) / 3 * len(self.data["train"]) * recipe.epochs,
                passed=thirds(pattern.blocks) / 3 * len(scored),
            ),
            versions=_versions(),
            **vars(scores),
        )
        outcome = self._measured(job, self._keep(job, outcome, model, pattern), model)
        return replace(outcome, seconds=time.perf_counter() - began)

    def _fresh(self, job: Job, pattern: Pattern) -> tuple[PreTrainedModel, Recipe, None]:
        """The candidate over pre-trained weights, with a new head."""
        import torch

        from layersearch.models.base import reset_head, start_output_at
        from layersearch.models.surgery import build

        model = build(self.base.model, pattern)
        reset_head(model, self.base, job.seed)
        if self.task.kind == "regression":
            start_output_at(model, self.base, float(self.data["train"].labels.mean()))
        model.to(torch.device(self.device))  # type: ignore[arg-type]
        return model, self.recipe.with_(seed=job.seed), None

    def _taught(self, job: Job, pattern: Pattern) -> tuple[PreTrainedModel, Recipe, Teacher]:
        """The candidate over a super-network's weights, with that network's full model as its teacher."""
        import torch

        from layersearch.models import checkpoint
        from layersearch.models.surgery import build

        assert job.start is not None
        shared, _ = checkpoint.load(Path(job.start))
        model = build(shared, pattern).to(torch.device(self.device))  # type: ignore[arg-type]
        epochs = self.recipe.epochs * self.one_shot.tuning * 3 * self.base.num_layers / thirds(pattern.blocks)
        teacher = Teacher(np.load(answers_of(Path(job.start))), self.one_shot.taught)
        return model, self.recipe.with_(seed=job.seed, epochs=epochs), teacher

    def _share(self, job: Job, heartbeat: Heartbeat, began: float) -> Outcome:
        """The super-network of `job.seed` in its folder, and the scores of the job's patterns over its weights."""
        from layersearch.models.supernet import blocks_run
        from layersearch.training.supernet import predict_many

        patterns = [Pattern.parse(text) for text in job.patterns]
        model, work = self._super(job, patterns, heartbeat)
        scored = self.data[job.scored_on]
        if not job.scores:
            patterns = []
        logits = predict_many(model, patterns, scored, resolve_precision(self.recipe, model.device), heartbeat)
        finite = {p: answer for p, answer in logits.items() if np.isfinite(answer).all()}
        scores = {str(p): self.task.score(answer, scored.labels)[self.task.metric] for p, answer in finite.items()}
        scores = {text: score for text, score in scores.items() if np.isfinite(score)}
        return Outcome(
            number=job.number,
            pattern=job.pattern,
            seed=job.seed,
            shared=scores,
            work=work + self._work(passed=thirds(blocks_run(patterns)) / 3 * len(scored)),
            checkpoint=job.checkpoint,
            seconds=time.perf_counter() - began,
            versions=_versions(),
        )

    def _super(self, job: Job, patterns: Sequence[Pattern], heartbeat: Heartbeat) -> tuple[PreTrainedModel, float]:
        """The super-network, from its folder if it is there, else trained; and the work that it took here."""
        import torch

        from layersearch.models import checkpoint
        from layersearch.training.supernet import by_size, train_super

        assert job.checkpoint is not None
        assert job.start is not None
        folder, train, layers = Path(job.checkpoint), self.data["train"], self.base.num_layers
        made = checkpoint.is_complete(folder)
        begun = checkpoint.is_complete(Path(job.start))
        if made or begun:
            model = checkpoint.load(folder if made else Path(job.start))[0]
            model.to(torch.device(self.device))  # type: ignore[arg-type]
        else:
            model, whole, _ = self._fresh(job, Pattern.full(layers))
            finetune(model, self.task.kind, whole, train, heartbeat)
        if made:
            return model, 0.0
        recipe = self.recipe.with_(seed=job.seed, epochs=self.recipe.epochs * self.one_shot.epochs)
        drawn: list[Pattern] = []
        draw = by_size(patterns, layers)

        def noted(rng: random.Random) -> Pattern:
            drawn.append(draw(rng))
            return drawn[-1]

        train_super(model, self.task.kind, recipe, train, noted, heartbeat, taught=self.one_shot.taught)
        answers = predict(model, train, resolve_precision(recipe, model.device), heartbeat)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with answers_of(folder).open("wb") as file:
            np.save(file, answers)
            file.flush()
            os.fsync(file.fileno())
        checkpoint.save(model, Pattern.full(layers), folder, source_layers=layers, extras={"seed": job.seed})
        mean = sum(thirds(pattern.blocks) for pattern in drawn) / 3 / len(drawn)
        seen = len(train) * recipe.epochs
        first = 0.0 if begun else layers * len(train) * self.recipe.epochs
        return model, self._work(trained=first + (layers + mean) * seen, passed=layers * len(train))

    def _measured(self, job: Job, outcome: Outcome, model: PreTrainedModel) -> Outcome:
        """With the influence of the layers' halves, if the job asks for it."""
        if not job.influence:
            return outcome
        from layersearch.training.influence import examples_for, influence

        train, batch = self.data["train"], self.recipe.batch_size
        number = examples_for(len(train), self.recipe.epochs)
        found = influence(model, self.task.kind, train, number, batch, job.seed)
        work = outcome.work + self._work(trained=self.base.num_layers * number)
        return replace(outcome, influence=found, work=work)

    def _work(self, trained: float = 0.0, passed: float = 0.0) -> float:
        """Fine-tunings of the unchanged model for so many layers x examples trained and passed forward only."""
        whole = self.base.num_layers * len(self.data["train"]) * self.recipe.epochs
        return trained / whole + passed / (3 * whole)

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


def answers_of(folder: Path) -> Path:
    """Where the answers of a super-network's full model on the training examples lie, beside its folder."""
    return folder.with_name(f"{folder.name}-answers.npy")


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
