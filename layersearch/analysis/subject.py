"""What is analysed: a model by name or folder, an export, a kept checkpoint, a trial of a study, or an edit of these.

Knows: where models, checkpoints and their tokenizers lie, how an export becomes a plain model again. Does not know:
what is looked at in them, words of the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedModel

from layersearch import hub
from layersearch.errors import ModelError, StudyError, WordsError
from layersearch.kinds import KINDS
from layersearch.models import checkpoint
from layersearch.models.base import load_base, load_reader
from layersearch.models.folder import RECORD, read_record
from layersearch.models.language import LanguageModel, load_language_model
from layersearch.models.opened import load
from layersearch.models.surgery import auto_class, build, drop_halves, layers_of, skeleton
from layersearch.models.weights import set_weights, weights_of
from layersearch.pattern import Pattern
from layersearch.search.record import Record
from layersearch.tasks.task import Task

EMBEDDINGS = "embeddings"


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to be looked at. `reader` is what makes its inputs; `folder` holds its language head, if it has one.

    `pattern` says which layers of its base model it has; `edit_of` is the subject that it is an edit of.
    """

    name: str
    model: PreTrainedModel
    reader: Any
    pattern: Pattern
    folder: Path | None = None
    edit_of: Subject | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """What the places are called: before the first layer, then after each, by its number in the base model."""
        return (EMBEDDINGS, *map(str, self.pattern.blocks))

    @cached_property
    def language(self) -> LanguageModel:
        """The model in `folder` with its head over the vocabulary, loaded once. Raises ModelError where it has none."""
        if self.edit_of is not None:
            whole = self.edit_of.language
            return LanguageModel(build(whole.model, self.pattern).eval(), whole.foretells)  # type: ignore[no-untyped-call]
        if self.folder is None:
            raise ModelError(
                f"{self.name} has the head of its task and none over the vocabulary, so its layers cannot be read out; "
                "leave readout out of --what"
            )
        return load_language_model(self.folder)


def load_subject(
    name: str, task: Task, revision: str | None = None, tokenizer: str | None = None, beside: Subject | None = None
) -> Subject:
    """The model called `name`: on the hub, in a folder or package, an export, or the folder of a kept checkpoint.

    A checkpoint holds no tokenizer: `tokenizer` names a model that has the right one, else it is that of the subject
    `beside` it. No code from a folder is run. Raises ModelError, ExportError for an export that is not as it was.
    """
    if (Path(name) / RECORD).is_file() and read_record(Path(name))["form"] != "native":
        return _of_export(Path(name), name, task)
    if (Path(name) / checkpoint.MANIFEST).is_file():
        reader = beside.reader if beside and not tokenizer else _reader_of(tokenizer, task, name)
        return _of_checkpoint(Path(name), name, reader)
    folder, _ = hub.local_model(name, revision, option="--against" if beside else "--model")
    base = load_base(folder, num_labels=task.num_labels, kind=task.kind)
    reader = _reader_of(tokenizer, task, name) if tokenizer else load_reader(folder, task.kind)
    return Subject(name, base.model, reader, Pattern.full(base.num_layers), folder)


def subject_of_trial(record: Record, number: int, task: Task) -> Subject:
    """The candidate of a trial; raises StudyError where its weights are not kept, or there is no such trial."""
    row = record.trial(number)
    if row.checkpoint is None or not checkpoint.is_complete(Path(row.checkpoint)):
        kept = [str(other.number) for other in record.rows if other.checkpoint is not None]
        instead = f"take one of the trials whose weights are: {', '.join(kept)}" if kept else "none of this study's are"
        raise StudyError(
            f"the weights of trial {number} of {record.name!r} were not kept; {instead}, or export it and analyse its "
            "folder"
        )
    reader = load_reader(Path(record.facts["model_folder"]), task.kind)
    return _of_checkpoint(Path(row.checkpoint), f"{record.name} trial {number}", reader)


def edited(subject: Subject, pattern: Pattern) -> Subject:
    """What `pattern` makes of a subject, untrained. Raises PatternError for a layer that it does not have."""
    pattern.check(len(layers_of(subject.model)))
    blocks = subject.pattern.blocks
    name = f"{subject.name} as {pattern}"
    if subject.pattern != Pattern.full(len(blocks)):
        raise WordsError(f"{subject.name} is a candidate already; edit the model that it came from")
    return Subject(name, build(subject.model, pattern), subject.reader, pattern, subject.folder, subject)


def _of_checkpoint(folder: Path, name: str, reader: Any) -> Subject:
    model, manifest = checkpoint.load(folder)
    return Subject(name, model, reader, manifest.pattern)


def _of_export(folder: Path, name: str, task: Task) -> Subject:
    """The candidate in an export with code, as its family's own model. It keeps its head, which the task has to fit."""
    record = read_record(folder)
    model, reader = load(folder)
    outputs = model.config.num_labels if KINDS[task.kind].labelled else task.num_labels
    if (record["kind"], outputs) != (task.kind, task.num_labels):
        raise ModelError(
            f"{name} was exported with a head for {record['kind']} tasks of {model.config.num_labels} outputs, and "
            f"task {task.name} ({task.kind}) needs {task.num_labels}; analyse it with its own task"
        )
    pattern = Pattern.parse(record["pattern"])
    config = AutoConfig.for_model(**{**model.config.to_dict(), "model_type": record["model_type"]})
    plain = skeleton(auto_class(task.kind), config)
    drop_halves(plain, pattern)
    set_weights(plain, weights_of(model))
    return Subject(name, plain.eval(), reader, pattern)  # type: ignore[no-untyped-call]


def _reader_of(tokenizer: str | None, task: Task, name: str) -> Any:
    if tokenizer is None:
        raise WordsError(
            f"{name} is a checkpoint of a study and holds no tokenizer: name its base model with --tokenizer, or the "
            "study and the trial with --study and --trial"
        )
    return load_reader(hub.local_model(tokenizer, None, weights=False, option="--tokenizer")[0], task.kind)
