"""What is analysed: a model by name or folder, a kept checkpoint, a trial of a study, or an edit of one of these.

Knows: where models, checkpoints and their tokenizers lie. Does not know: what is looked at in them, words of the
command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from layersearch import hub
from layersearch.errors import ModelError, StudyError
from layersearch.models import checkpoint
from layersearch.models.base import load_base, load_reader
from layersearch.models.surgery import build, layers_of
from layersearch.pattern import Pattern
from layersearch.search.record import Record
from layersearch.tasks.task import Task

EMBEDDINGS = "embeddings"


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to be looked at. `reader` is what makes its inputs; `folder` holds its language head, if it has one.

    `pattern` says which layers of its base model it has; `edited` that it is an edit of the subject beside it.
    """

    name: str
    model: PreTrainedModel
    reader: Any
    pattern: Pattern
    folder: Path | None = None
    edited: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """What the places are called: before the first layer, then after each, by its number in the base model."""
        return (EMBEDDINGS, *map(str, self.pattern.blocks))


def load_subject(
    name: str, task: Task, revision: str | None = None, tokenizer: str | None = None, beside: Subject | None = None
) -> Subject:
    """The model called `name`: on the hub, in a folder or package, or the folder of a kept checkpoint.

    A checkpoint holds no tokenizer: `tokenizer` names a model that has the right one, else it is that of the subject
    `beside` it. Raises ModelError.
    """
    if (Path(name) / checkpoint.MANIFEST).is_file():
        reader = beside.reader if beside and not tokenizer else _reader_of(tokenizer, task, name)
        return _of_checkpoint(Path(name), name, reader)
    folder, _ = hub.local_model(name, revision)
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
        raise ModelError(f"{subject.name} is a candidate already; edit the model that it came from")
    return Subject(name, build(subject.model, pattern), subject.reader, pattern, subject.folder, edited=True)


def _of_checkpoint(folder: Path, name: str, reader: Any) -> Subject:
    model, manifest = checkpoint.load(folder)
    return Subject(name, model, reader, manifest.pattern)


def _reader_of(tokenizer: str | None, task: Task, name: str) -> Any:
    if tokenizer is None:
        raise ModelError(
            f"{name} is a checkpoint of a study and holds no tokenizer: name its base model with --tokenizer, or the "
            "study and the trial with --study and --trial"
        )
    return load_reader(hub.local_model(tokenizer, None, weights=False)[0], task.kind)
