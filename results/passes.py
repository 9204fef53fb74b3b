"""What the papers look at without training: probes, likeness of models and layers, answers of edited models, times.

Knows: kept weights of a work folder, the library's analyses. Does not know: which of them a paper wants, tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layersearch.analysis.analyze import analyze, drawn
from layersearch.analysis.states import layer_rows
from layersearch.analysis.subject import Subject, load_subject
from layersearch.analysis.wanted import Wanted
from layersearch.errors import ModelError
from layersearch.models.base import BaseModel, load_base, load_reader
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.search.question import Prepared
from layersearch.search.spelling import measure
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import begin, predict
from layersearch.training.recipe import Recipe
from results.asked import PLAIN, Asked, Setting, Way
from results.known import question_of
from results.papers import whole

EXAMPLES = 400  # that passes look at; probes fit on twice as many
BATCH = 32  # examples of a timed batch, as in Sajjad et al.


@dataclass(frozen=True)
class Room:
    """A task of a setting with its model, pre-trained and as it was fine-tuned."""

    setting: Setting
    task: str

    @cached_property
    def prepared(self) -> Prepared:
        """The question behind the task."""
        return self.setting.prepared(self.task)

    @property
    def unchanged(self) -> str:
        """The unchanged model's pattern."""
        return str(Pattern.full(self.prepared.num_layers))

    @property
    def made_for(self) -> dict[str, str]:
        """What a table of passes over the task's models holds for; the question is of data, recipe and all else."""
        question = question_of(self.prepared.purpose)
        return {"model": self.setting.scale.model, "task": self.task, "question": question}

    @cached_property
    def base(self) -> BaseModel:
        """The pre-trained model."""
        task = self.prepared.task
        return load_base(self.prepared.folder, num_labels=task.num_labels, kind=task.kind)

    @cached_property
    def reader(self) -> Any:
        """Its tokenizer."""
        return load_reader(self.prepared.folder, self.prepared.task.kind)

    @property
    def recipe(self) -> Recipe:
        """The task's recipe."""
        return self.prepared.what.recipe

    def pretrained(self) -> Subject:
        """The pre-trained model as a subject of analyses."""
        return Subject("pre-trained", self.base.model, self.reader, Pattern.parse(self.unchanged), self.prepared.folder)

    def weights(self, pattern: str, seed: int, way: Way = PLAIN) -> Path:
        """Where the weights of a candidate lie."""
        question = question_of(self.setting.prepared(self.task, way).purpose)
        return self.setting.weights(Asked(self.task, pattern, seed, way), question)

    def tuned(self, pattern: str, seed: int, way: Way = PLAIN) -> Subject | None:
        """A fine-tuned candidate whose weights were kept, or None."""
        folder = self.weights(pattern, seed, way)
        if not whole(folder):
            return None
        found = load_subject(str(folder), self.prepared.task, beside=self.pretrained())
        return Subject(f"{pattern}, seed {seed}", found.model, self.reader, found.pattern)

    def encoded(self, part: str, number: int | None = None) -> Encoded:
        """The examples of a part of the data, or `number` of them."""
        examples = getattr(self.prepared.splits, part)
        examples = examples if number is None else drawn(examples, number, 0)
        return self.prepared.task.encode(examples, self.reader, self.recipe.max_length)


def probes(room: Room, candidates: Mapping[str, Subject], seed: int) -> Iterator[dict[str, Any]]:
    """What linear models read off the first token of each frozen layer; a line a place."""
    wanted = Wanted(("probes",), rows="first", examples=2 * EXAMPLES, max_length=room.recipe.max_length)
    for name, subject in candidates.items():
        probed = analyze([subject], room.prepared.task, room.prepared.splits, wanted).probes[0][0]
        for number, place in enumerate(subject.places):
            line = {"task": room.task, "model": name, "seed": seed, "depth": number, "place": place}
            low, high = probed.intervals[number]
            scores = {"score": probed.scores[number], "low": low, "high": high, "majority": probed.majority}
            yield line | {key: f"{value:.4f}" for key, value in scores.items()}


def likeness(room: Room, one: Subject, other: Subject, seed: int) -> Iterator[dict[str, Any]]:
    """Mean cosine of the first token's states in two models of one depth, a line a place."""
    encoded = room.encoded("validation", EXAMPLES)
    states = [layer_rows(subject.model, encoded, "first") for subject in (one, other)]
    for depth, (ours, theirs) in enumerate(zip(*states, strict=True)):
        yield {"task": room.task, "seed": seed, "depth": depth, "cosine": f"{_cosine(ours, theirs):.4f}"}


def _cosine(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    products = (ours * theirs).sum(axis=1)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(np.mean(products / lengths))


def attention_cka(room: Room, one: Subject, other: Subject) -> dict[int, float]:
    """Linear CKA of the attention outputs that two models have of the same layer, by layer of the base model."""
    wanted = Wanted(("cka",), examples=EXAMPLES, max_length=room.recipe.max_length)
    maps = analyze([one, other], room.prepared.task, room.prepared.splits, wanted).cka
    values = next(found.values for found in maps if found.of == "attention")
    places = [[block.layer for block in subject.pattern.blocks] for subject in (one, other)]
    shared = [layer for layer in places[0] if layer in places[1]]
    return {layer: float(values[places[0].index(layer), places[1].index(layer)]) for layer in shared}


def answers(room: Room, subject: Subject, patterns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """How far a fine-tuned model's answers agree with those of its untrained edits; a line each.

    `agreement` is the share of equal classes, or Spearman's correlation of numbers, `score` the task's metric, both
    over at most EXAMPLES of the validation set.
    """
    from scipy.stats import spearmanr

    encoded, task = room.encoded("validation", EXAMPLES), room.prepared.task
    precision = begin(subject.model, task.kind, room.recipe, encoded).precision
    whole_one = predict(subject.model, task.kind, encoded, precision)
    for pattern in [room.unchanged, *patterns]:
        told = predict(build(subject.model, Pattern.parse(pattern)), task.kind, encoded, precision)
        if task.kind == "regression":
            alike = float(spearmanr(whole_one[:, 0], told[:, 0]).statistic)
        else:
            alike = float((whole_one.argmax(axis=1) == told.argmax(axis=1)).mean())
        score = task.score(told, encoded)[task.metric]
        yield {"task": room.task, "pattern": pattern, "agreement": f"{alike:.4f}", "score": f"{score:.4f}"}


def last_states(room: Room, patterns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The pre-trained model beside its untrained edits: cosine of the last states, and what its language head says.

    The cosine is of means over tokens. `says` is the share of tokens of which the head over the vocabulary, where the
    checkpoint has one, says the same.
    """
    encoded = room.encoded("validation", EXAMPLES)
    whole_one = layer_rows(room.base.model, encoded, "mean")[-1]
    says = _said(room, patterns)
    for pattern in patterns:
        edited = layer_rows(build(room.base.model, Pattern.parse(pattern)), encoded, "mean")[-1]
        line = {"task": room.task, "pattern": pattern, "cosine": f"{_cosine(whole_one, edited):.4f}"}
        yield line | {"says": says.get(pattern, "")}


def _said(room: Room, patterns: Sequence[str]) -> dict[str, str]:
    from layersearch.analysis.readout import read_out
    from layersearch.models.language import LanguageModel, load_language_model

    try:
        model = load_language_model(room.prepared.folder)
    except ModelError:
        return {}
    others = [LanguageModel(build(model.model, Pattern.parse(p)).eval(), model.foretells) for p in patterns]
    texts = room.encoded("validation", 256)
    found = read_out(model, texts, room.reader.all_special_ids, others)[1:]
    return {pattern: f"{one.agreement[-1]:.4f}" for pattern, one in zip(patterns, found, strict=True)}


def times(room: Room, patterns: Sequence[str], turns: int = 8) -> list[dict[str, Any]]:
    """Processor seconds of a training step and of scoring a batch, all patterns in turns, as medians; a line each.

    One step and one batch of BATCH examples of the training part each turn, at one thread; on a GPU seconds of the
    clock. `step` and `infer` are shares of the unchanged model's, turn by turn.
    """
    all_of = [room.unchanged, *(p for p in patterns if p != room.unchanged)]
    recipe = room.recipe.with_(batch_size=BATCH, epochs=1000.0)
    runs = [_timed_model(room, pattern, recipe) for pattern in all_of]
    found: dict[str, list[tuple[float, float]]] = {pattern: [] for pattern in all_of}
    for turn in range(turns + 2):
        for pattern, (step, infer) in zip(all_of, runs, strict=True):
            pair = (_seconds(room, step), _seconds(room, infer))
            if turn >= 2:  # the first two warm up
                found[pattern].append(pair)
    first = found[room.unchanged]
    lines = []
    for pattern, pairs in found.items():
        shares = [[one[k] / other[k] for one, other in zip(pairs, first, strict=True)] for k in (0, 1)]
        counted = Pattern.parse(pattern).parameters(room.prepared.counts)
        line: dict[str, Any] = {"pattern": pattern, "parameters": counted}
        line |= {"step ms": f"{1000 * median(pair[0] for pair in pairs):.1f}"}
        line |= {"infer ms": f"{1000 * median(pair[1] for pair in pairs):.1f}"}
        lines.append({**line, "step": f"{median(shares[0]):.3f}", "infer": f"{median(shares[1]):.3f}"})
    return lines


Run = Callable[[], object]


def _timed_model(room: Room, pattern: str, recipe: Recipe) -> tuple[Run, Run]:
    """A training step and a scored batch of a candidate."""
    model = build(room.base.model, Pattern.parse(pattern))
    model.to(_device(room))
    task, encoded = room.prepared.task, room.encoded("train", BATCH)
    training = begin(model, task.kind, recipe, encoded)
    share = iter(np.arange(1, 1001) / 1000)
    return lambda: training.advance(float(next(share))), lambda: predict(model, task.kind, encoded, training.precision)


def _device(room: Room) -> Any:
    import torch

    from layersearch.search.question import resolve_device

    return torch.device(resolve_device(room.setting.device))


def _seconds(room: Room, run: Run) -> float:
    import torch

    device = _device(room)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    begun = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begun


def contributions(room: Room) -> tuple[float, ...]:
    """Cosine of the first token before and after each layer of the pre-trained model (Sajjad et al., section 2.3)."""
    return measure(room.prepared, room.setting.device).first_token
