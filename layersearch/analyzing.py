"""The command `analyze`: what the layers of a model do, or of two models side by side.

Knows: its words and exits. Does not know: how anything is computed or shown. Heavy libraries are imported inside the
command, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from layersearch.analysis.wanted import EXAMPLES, OWN, AttentionOf, Found, RowsOf, Wanted
from layersearch.answering import say
from layersearch.completion import studies
from layersearch.errors import ModelError, StudyError, WordsError
from layersearch.names import unknown
from layersearch.options import (
    AsJson,
    Data,
    Device,
    Label,
    Metric,
    Model,
    Revision,
    Storage,
    Task,
    Text,
    TextPair,
    columns_of,
)
from layersearch.recipe_options import MaxLength, Seed
from layersearch.search.question import How, Part, What, check_device, resolve_device
from layersearch.training.recipe import Recipe

if TYPE_CHECKING:
    from layersearch.analysis.subject import Subject
    from layersearch.search.record import Record
    from layersearch.tasks.task import Splits
    from layersearch.tasks.task import Task as TaskLike

analyzing = typer.Typer(rich_markup_mode=None)


@analyzing.command()
def analyze(
    model: Model = None,
    task: Task = None,
    data: Data = None,
    revision: Revision = None,
    study: Annotated[
        str | None, typer.Option(help="Study of a trial that is analysed, with its task.", autocompletion=studies)
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Number of that trial; its weights must be kept.")] = None,
    storage: Storage = How.storage,
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Second model, named as the first; or a checkpoint's folder.")
    ] = None,
    pattern: Annotated[str | None, typer.Option(help="Second model: the first one so edited, such as '0-3 5'.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Whose tokenizer reads, for a checkpoint's folder.")
    ] = None,
    what: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]", help="cka, similarity, probes, readout; repeatable; default all that can be had."
        ),
    ] = None,
    rows: Annotated[RowsOf, typer.Option(help="A row of CKA: mean over tokens, first token, every token.")] = "mean",
    attention: Annotated[
        AttentionOf, typer.Option(help="Attention outputs in CKA: whole, as handed on, or the change to what came in.")
    ] = "whole",
    probe: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="own labels, length, word-content, bigram-shift, odd-word; repeatable."),
    ] = None,
    senteval: Annotated[Path | None, typer.Option(help="Folder with SentEval's probing files: more probes.")] = None,
    split: Annotated[Part, typer.Option(help="Part of the data that is looked at; probes take their own.")] = "train",
    examples: Annotated[int, typer.Option(min=4, help="Examples of it; 256 of them are read out.")] = EXAMPLES,
    max_length: MaxLength = None,
    seed: Seed = Recipe.seed,
    device: Device = How.device,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    metric: Metric = None,
    as_json: AsJson = False,
    png: Annotated[Path | None, typer.Option(help="Folder for the pictures as PNGs.")] = None,
    html: Annotated[Path | None, typer.Option(help="File for a page with all of it that opens offline.")] = None,
) -> None:
    """Say what a model's layers do: how alike they are, what they change, what can be read off them.

    Give --model and --task, or --study and --trial; a second model is put beside it. Nothing of a model is trained.
    """
    _check_words(model, task, study, trial, against, pattern)
    columns = columns_of(text, text_pair, label, metric)
    if study is not None and (columns is not None or revision is not None):
        raise WordsError("--study takes columns and revision from the study; leave them out")
    named = _named(what)
    check_device(device)
    record = None if study is None else _record(storage, study)
    given = What(model or "", task or "", data, revision=revision, columns=columns)
    question, found, splits = _asked(given, seed) if record is None else _asked_again(record, data)
    # what is wrong so far is said before the seconds that the libraries behind these take
    from layersearch.analysis.analyze import analyze as analyse
    from layersearch.models.families import positions_of
    from layersearch.report.analysis import Shown, as_plain
    from layersearch.search.preparing import check_length

    length = max_length or question.recipe.max_length
    subjects = _subjects(question, record, trial, found, against, pattern, tokenizer)
    for one in subjects:
        check_length(length, positions_of(one.model.config))
        one.model.to(resolve_device(device))  # type: ignore[arg-type]
    probes = tuple(probe) if probe else (OWN,)
    wanted = Wanted(
        named or _possible(subjects, found, probes, senteval),
        rows,
        attention,
        split,
        examples,
        probes=_probes(probes, found, senteval, asked=probe is not None or "probes" in named),
        senteval=senteval,
        max_length=length,
        seed=seed,
    )
    with Shown() as progress:
        analysis = analyse(subjects, found, splits, wanted, progress, progress.between if not as_json else _nothing)
    if as_json:
        typer.echo(json.dumps(as_plain(analysis), indent=1))
    if png is not None:
        from layersearch.report.analysis_figures import draw_analysis

        for drawn in draw_analysis(analysis, png):
            say(f"drawn: {drawn}")
    if html is not None:
        from layersearch.report.analysis_page import write_page

        about = [("task", question.task), ("study", study), ("trial", None if trial is None else str(trial))]
        write_page(analysis, html, about)
        say(f"written: {html}")


def _check_words(
    model: str | None, task: str | None, study: str | None, trial: int | None, against: str | None, pattern: str | None
) -> None:
    """Raise WordsError for words that do not go together, or say too little."""
    if study is None and (model is None or task is None):
        raise WordsError("say what is analysed: --model and --task, or --study and --trial")
    if study is None and trial is not None:
        raise WordsError("--trial needs the study that it is of: name it with --study")
    if study is not None and (trial is None or model is not None or task is not None):
        out = [f"--{word}" for word, value in (("model", model), ("task", task)) if value is not None]
        todo = ["add --trial N"] * (trial is None) + [f"leave out {' and '.join(out)}"] * bool(out)
        raise WordsError(f"--study takes model, task and data from the study: {', '.join(todo)}")
    if against is not None and pattern is not None:
        raise WordsError("--against and --pattern both name the second model; give one of them")


def _named(what: Sequence[str] | None) -> tuple[Found, ...]:
    """The analyses that were named, in the order in which they are made."""
    names = [name.strip() for text in what or () for name in text.split(",")]
    for name in names:
        if name not in get_args(Found):
            raise WordsError(unknown("analysis", name, get_args(Found)))
    return tuple(name for name in get_args(Found) if name in names)


def _record(storage: str, study: str) -> Record:
    from layersearch.search.record import read_study

    record = read_study(storage, study, say)
    if "replay" in record.facts:
        raise StudyError(
            f"study {record.name!r} took its scores from {record.facts['replay']} and trained no model; name one with "
            "--model and --task"
        )
    return record


def _asked(given: What, seed: int) -> tuple[What, TaskLike, Splits]:
    """What is given, its task and its data, split by `seed`."""
    from dataclasses import replace

    from layersearch.tasks import load_task

    question = replace(given, recipe=Recipe().with_(seed=seed))
    task = load_task(question.task, question.data, question.columns)
    return question, task, task.splits(question.holdout, seed)


def _asked_again(record: Record, data: Path | None) -> tuple[What, TaskLike, Splits]:
    """What a study asked, over its own data, which lie where it says or in `data`. Raises StudyError for others."""
    from dataclasses import replace

    from layersearch.search.again import asked_again, question_of

    what = question_of(record)
    found = asked_again(record, replace(what, data=data or what.data), "say with --data where its own lie now")
    return found.what, found.task, found.splits


def _subjects(
    question: What,
    record: Record | None,
    trial: int | None,
    task: TaskLike,
    against: str | None,
    pattern: str | None,
    tokenizer: str | None,
) -> list[Subject]:
    """One model, or two."""
    from layersearch.analysis.subject import edited, load_subject, subject_of_trial
    from layersearch.pattern import Pattern

    if record is not None and trial is not None:
        first = subject_of_trial(record, trial, task)
    else:
        first = load_subject(question.model, task, question.revision, tokenizer)
    if pattern is not None:
        return [first, edited(first, Pattern.parse(pattern))]
    return [first] if against is None else [first, load_subject(against, task, None, tokenizer, first)]


def _possible(
    subjects: list[Subject], task: TaskLike, probes: tuple[str, ...], senteval: Path | None
) -> tuple[Found, ...]:
    """All analyses that this task and these models allow; what is left out is said, and why."""
    from layersearch.analysis.probes import PROBED

    found: list[Found] = ["cka", "similarity"]
    if task.kind in PROBED or probes != (OWN,) or senteval is not None:
        found.append("probes")
    if subjects[0].reader is not subjects[-1].reader and task.kind != "image-classification":
        vocabularies = [one.reader.get_vocab() for one in subjects]
        if vocabularies[0] != vocabularies[1]:
            say("no read-out: the two models have different vocabularies, so what they say cannot be compared")
            return tuple(found)
    try:
        read = task.kind != "image-classification" and all(one.folder and one.language for one in subjects)
    except ModelError as error:
        say(f"no read-out: {str(error).partition(';')[0]}")  # nobody asked for one, so there is nothing to mend
        read = False
    return (*found, "readout") if read else tuple(found)


def _probes(probes: tuple[str, ...], task: TaskLike, senteval: Path | None, *, asked: bool) -> tuple[str, ...]:
    """The task's own labels are not probed where nobody asked for them and it has none an example."""
    from layersearch.analysis.probes import PROBED

    return () if not asked and senteval is not None and task.kind not in PROBED else probes


def _nothing(_: object) -> None:
    """JSON is one value, and comes at the end."""
