"""One job in, one outcome out: build a candidate from a pattern, fine-tune it, score it, keep weights that count.

Knows: a base model, encoded data and a recipe, loaded once per process. Does not know: who asks for the job (a loop, a
Ray worker) or where the outcome is stored.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layersearch.errors import LayersearchError, StoppedError
from layersearch.pattern import Pattern, thirds
from layersearch.tasks.constant import constant_score
from layersearch.tasks.task import Encoded, Task
from layersearch.training import paused
from layersearch.training.candidates import Candidates
from layersearch.training.finetune import begin, finetune, measure
from layersearch.training.freezing import freeze
from layersearch.training.gradual import layers_trained, lose, way_to
from layersearch.training.job import Job, Outcome, Split
from layersearch.training.recipe import OneShotRecipe, Recipe
from layersearch.training.steps import Heartbeat, Training, resolve_precision
from layersearch.training.told import told_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from layersearch.models.base import BaseModel


@dataclass(frozen=True)
class Evaluator:
    """Everything a worker needs to turn jobs into outcomes; `data` holds "train" and the splits that may score.

    `one_shot` says how jobs with `start` or `patterns` are done, `warm` that there are such jobs, so that the unchanged
    model that they start from gets no zeros. `constants` remembers what constant answers score.
    """

    base: BaseModel
    task: Task
    recipe: Recipe
    data: Mapping[str, Encoded]
    device: str = "cpu"
    one_shot: OneShotRecipe = field(default_factory=OneShotRecipe)
    warm: bool = False
    constants: dict[Split, float | None] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, job: Job, heartbeat: Heartbeat = lambda _: None) -> Outcome:
        """What becomes of `job` at its end. A candidate's failure comes back as the outcome's reason."""
        *_, outcome = self.course(job, heartbeat)
        return outcome

    def course(self, job: Job, heartbeat: Heartbeat = lambda _: None) -> Generator[Outcome, None, None]:
        """The outcomes of `job`, the last of them final: one at each of its rungs, or one alone. StoppedError passes.

        Whoever takes no more of them leaves the candidate at its rung; asking for the next goes on from memory.
        """
        began = time.perf_counter()
        try:
            if job.patterns:
                yield self._share(job, heartbeat, began)
            else:
                yield from self._climb(job, heartbeat, began)
        except StoppedError:
            raise
        except LayersearchError as error:
            yield _failed(job, str(error), began)
        except Exception as error:  # the boundary: a bug in one candidate must not end the others
            yield self._broken(job, error, began)
        finally:
            self._give_memory_back()

    def _broken(self, job: Job, error: Exception, began: float) -> Outcome:
        """What an error that nobody foresaw means for the job; raises it if this process is of no use any more."""
        import torch

        if isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError):
            raise error  # the device's state is broken: this process can evaluate nothing
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            outcome = _failed(job, f"out of memory on {self.device}: start fewer workers or a smaller batch", began)
            return replace(outcome, lost=True, died=True)
        trace = "".join(traceback.format_exception(error))
        return _failed(job, f"{type(error).__name__}: {error}".splitlines()[0], began, trace)

    def _give_memory_back(self) -> None:
        """Let other workers on the same GPU have what this trial took."""
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _climb(self, job: Job, heartbeat: Heartbeat, began: float) -> Iterator[Outcome]:
        """Fine-tune the candidate from rung to rung, and score it at each."""
        pattern = Pattern.parse(job.pattern)
        candidates = self._candidates
        answering = self._work(passed=self.base.num_layers * len(self.data["train"])) if candidates.asks(job) else 0.0
        way = way_to(pattern, self.base.num_layers) if self.recipe.drop_every else [pattern]
        fresh = job.start is None
        made = candidates.fresh(job, way[0]) if fresh else candidates.taught(job, pattern, heartbeat)
        model, recipe, teacher = made
        losing = time.perf_counter()
        model = lose(model, way, self.task.kind, recipe, self.data["train"], heartbeat)
        lost = time.perf_counter() - losing
        answering += self._work(trained=layers_trained(way) * len(self.data["train"]) * recipe.drop_every)
        training = begin(model, self.task.kind, recipe, self.data["train"], teacher)
        rungs = job.rungs or (1.0,)
        spent = paused.resumed(job, training, rungs[0])
        before = spent.seconds
        spent = replace(spent, work=spent.work + answering, train_seconds=spent.train_seconds + lost)
        for share in rungs:
            spent = self._measured(job, training, pattern, share, spent, heartbeat)
            if share == 1.0:
                spent = self._with_influence(job, self._keep(job, replace(spent, rung=None), model, pattern), model)
            spent = replace(spent, seconds=before + time.perf_counter() - began)
            yield spent if share == 1.0 else paused.put_down(job, training, spent)

    @property
    def _candidates(self) -> Candidates:
        of = self.base, self.task.kind, self.data["train"], self.recipe, self.device, self.one_shot
        return Candidates(*of, warm=self.warm)

    def _constant_on(self, split: Split) -> float | None:
        """What the best constant answer scores there, found out once."""
        if split not in self.constants:
            self.constants[split] = constant_score(self.task, self.data[split])
        return self.constants[split]

    def _measured(
        self, job: Job, training: Training, pattern: Pattern, share: float, spent: Outcome, heartbeat: Heartbeat
    ) -> Outcome:
        """The outcome of training until `share` of the steps is done, when `spent` tells what it cost up to now."""
        from layersearch.models.readout import learnt

        scored, done = self.data[job.scored_on], training.done
        scores = measure(training, self.task, scored, share, heartbeat)
        depth, examples = thirds(pattern.blocks) / 3, len(self.data["train"]) * training.recipe.epochs
        seen = examples * (training.done - done)
        led = self.base.num_layers * seen if self._candidates.leads(job) else 0.0
        work = self._work(trained=depth * seen, passed=depth * len(scored) + led)
        outcome = Outcome(
            number=job.number,
            pattern=job.pattern,
            seed=job.seed,
            score=scores.metrics[self.task.metric],
            parameters=sum(p.numel() for p in training.model.parameters()),
            constant=self._constant_on(job.scored_on),
            **self._zeros(training),
            work=spent.work + work,
            start=None if job.start is None else Path(job.start).name,
            versions=_versions(self.device),
            rung=share,
            mix=learnt(training.model, pattern),
            **vars(scores),
        )
        return replace(
            outcome,
            train_seconds=spent.train_seconds + scores.train_seconds,
            score_seconds=spent.score_seconds + scores.score_seconds,
        )

    def _zeros(self, training: Training) -> dict[str, Any]:
        """How many parameters are not zero, and the share of zeros in the matrices, where the recipe asks for zeros."""
        if self.recipe.zeros is None:
            return {}
        from layersearch.models.matrices import not_zero, zeros_in

        zeros, weights = zeros_in(training.model)
        return {"non_zero": not_zero(training.model), "sparsity": zeros / max(1, weights)}

    def _share(self, job: Job, heartbeat: Heartbeat, began: float) -> Outcome:
        """The super-network of `job.seed` in its folder, and the scores of the job's patterns over its weights."""
        from layersearch.models.supernet import blocks_run
        from layersearch.training.supernet import groups_of, predict_many

        patterns = [Pattern.parse(text) for text in job.patterns]
        model, work = self._super(job, patterns, heartbeat)
        scored = self.data[job.scored_on]
        groups = groups_of(patterns if job.scores else (), len(scored.labels), self.task.num_labels)
        precision, kind = resolve_precision(self.recipe, model.device), self.task.kind
        scores: dict[str, float] = {}
        for group in groups:
            answers = predict_many(model, kind, group, scored, precision, heartbeat)
            finite = {str(p): answer for p, answer in answers.items() if np.isfinite(answer).all()}
            scores |= {text: self.task.score(answer, scored)[self.task.metric] for text, answer in finite.items()}
        return Outcome(
            number=job.number,
            pattern=job.pattern,
            seed=job.seed,
            shared={text: score for text, score in scores.items() if np.isfinite(score)},
            work=work + self._work(passed=sum(thirds(blocks_run(group)) for group in groups) / 3 * len(scored)),
            checkpoint=job.checkpoint,
            seconds=time.perf_counter() - began,
            versions=_versions(self.device),
        )

    def _super(self, job: Job, patterns: Sequence[Pattern], heartbeat: Heartbeat) -> tuple[PreTrainedModel, float]:
        """The super-network, from its folder if it is there, else trained; and the work that it took."""
        import torch

        from layersearch.models import checkpoint
        from layersearch.models.surgery import hold_mix
        from layersearch.training.supernet import by_size, train_super

        assert job.checkpoint is not None
        folder, train, layers = Path(job.checkpoint), self.data["train"], self.base.num_layers
        candidates = self._candidates
        if job.start is None or checkpoint.is_complete(folder):
            model, manifest = checkpoint.load(folder)
            model.to(torch.device(self.device))  # type: ignore[arg-type]
            return model, 0.0 if job.start is None else float(manifest.extras["work"])
        begun = checkpoint.is_complete(Path(job.start))
        if begun:
            model = checkpoint.load(Path(job.start))[0]
            model.to(torch.device(self.device))  # type: ignore[arg-type]
            freeze(model, Pattern.full(layers), self.recipe.freeze)
        else:
            model, whole, _ = candidates.fresh(job, Pattern.full(layers))
            finetune(model, self.task.kind, whole, train, heartbeat)
        hold_mix(model, patterns, self.recipe.mixing)
        recipe = self.recipe.dense.with_(seed=job.seed, epochs=self.recipe.epochs * self.one_shot.epochs)
        drawn: list[Pattern] = []
        draw = by_size(patterns, layers)

        def noted(rng: random.Random) -> Pattern:
            drawn.append(draw(rng))
            return drawn[-1]

        train_super(model, self.task.kind, recipe, train, noted, heartbeat, taught=self.one_shot.taught)
        told_in(folder).unlink(missing_ok=True)
        if "logits" in self.recipe.teach:
            candidates.told(model, folder, heartbeat)
        mean = sum(thirds(pattern.blocks) for pattern in drawn) / 3 / len(drawn)
        seen = len(train) * recipe.epochs
        first = 0.0 if begun else layers * len(train) * self.recipe.epochs
        work = self._work(trained=first + (layers + mean) * seen, passed=layers * len(train))
        extras = {"seed": job.seed, "work": work}
        checkpoint.save(model, Pattern.full(layers), folder, source_layers=layers, extras=extras, kind=self.task.kind)
        return model, work

    def _with_influence(self, job: Job, outcome: Outcome, model: PreTrainedModel) -> Outcome:
        """With the influence of the layers' halves, if the job asks for it."""
        if not job.influence:
            return outcome
        from layersearch.training.influence import examples_for, influence

        train, batch = self.data["train"], self.recipe.batch_size
        model.requires_grad_(True)  # what was frozen has an influence too
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
        own = job.costs or (outcome.parameters,)
        beaten = any(
            other >= good and all(its <= mine for its, mine in zip(sizes, own, strict=True))
            for other, *sizes in job.front
        )
        if job.checkpoint is None or beaten:
            return outcome
        told_in(Path(job.checkpoint)).unlink(missing_ok=True)  # of what lay there before
        extras = {"trial": job.number, "seed": job.seed, "metrics": dict(outcome.metrics)}
        try:
            layers, kind = self.base.num_layers, self.task.kind
            checkpoint.save(model, pattern, Path(job.checkpoint), source_layers=layers, extras=extras, kind=kind)
        except (LayersearchError, OSError) as error:  # a full disk must not cost a score that is paid for
            return replace(outcome, note=f"weights not kept: {error}".splitlines()[0])
        return replace(outcome, checkpoint=job.checkpoint)


@cache
def _versions(device: str) -> str:
    """The libraries and the hardware that decide a score's last digits, as one line."""
    from layersearch.models.measure import hardware

    names = ("layersearch", "torch", "transformers", "numpy")
    return f"{', '.join(f'{name} {version(name)}' for name in names)}, on {hardware(device)}"


def _failed(job: Job, reason: str, began: float, trace: str | None = None) -> Outcome:
    return Outcome(
        number=job.number,
        pattern=job.pattern,
        seed=job.seed,
        reason=reason,
        seconds=time.perf_counter() - began,
        trace=trace,
    )
