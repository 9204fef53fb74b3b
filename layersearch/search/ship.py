"""A trial of a study becomes an exported folder: from its kept checkpoint, or trained again.

Knows: the record of a study and how to repeat one of its trials. Does not know: what an export looks like, words of the
command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from layersearch.errors import ExportError, StudyError
from layersearch.models import checkpoint
from layersearch.models.card import ModelCard, Score
from layersearch.models.case import Proof, Validation
from layersearch.models.export import check_exportable, export, require_free
from layersearch.models.families import Form
from layersearch.models.onnx import require_onnx
from layersearch.models.onnx_export import export_onnx
from layersearch.pattern import Pattern
from layersearch.search.agreement import from_network
from layersearch.search.preparing import prepare
from layersearch.search.question import How, Prepared, What
from layersearch.search.record import Record
from layersearch.search.run import make_evaluator
from layersearch.search.storage import Say
from layersearch.search.trials import Row
from layersearch.search_space import SearchSpace
from layersearch.tasks.own import Columns
from layersearch.training.job import Job
from layersearch.training.recipe import OneShotRecipe, Recipe

PROOF_EXAMPLES = 32  # of the search split, on which the exported folder must repeat the logits
_LIBRARIES = ("layersearch", "torch", "transformers", "ray", "optuna", "datasets", "safetensors")


def ship(record: Record, number: int, to: Path, how: How, say: Say, form: Form | None = None) -> Proof:
    """Export trial `number` to the folder `to`, proven; trains it again first if its weights were not kept.

    `form` is the one that its pattern needs unless given.

    Raises StudyError for a trial without a score, or whose model or data have changed since; ExportError for a study
    without a model, a form that its pattern cannot have, a folder that holds something or a failed proof.
    """
    if "replay" in record.facts:
        raise ExportError(
            f"study {record.name!r} took its scores from {record.facts['replay']} and trained no model; "
            "search with `layersearch run` to have something to export"
        )
    row = record.trial(number)
    check_exportable(Pattern.parse(row.pattern), record.facts.get("model_type", ""), form)
    if form == "onnx":
        require_onnx()
    require_free(to)
    prepared = prepared_again(record)
    _require_same(record, row, prepared)
    if row.checkpoint is not None and _belongs_to(row, Path(row.checkpoint)):
        return _export(record, row, Path(row.checkpoint), to, prepared, form)
    start, budget = _start_of(record, row)
    say(f"the weights of trial {number} were not kept: it is trained again, about {row.train_seconds or 0:.0f} s")
    with TemporaryDirectory(prefix="layersearch-") as scratch:
        kept = Path(scratch) / "checkpoint"
        job = Job(row.number, row.pattern, row.seed, checkpoint=str(kept), start=start, budget=budget)
        again = _train_again(row, job, prepared, how, say)
        return _export(record, again, kept, to, prepared, form)


def prepared_again(record: Record) -> Prepared:
    """What the study asked, looked up anew. Raises StudyError for a study that trained no model."""
    if "replay" in record.facts:
        raise StudyError(
            f"study {record.name!r} took its scores from {record.facts['replay']} and trained no model; "
            "search with `layersearch run` to have one"
        )
    return prepare(question_of(record), SearchSpace.model_validate_json(record.purpose.values["space"]))


def _belongs_to(row: Row, folder: Path) -> bool:
    """Whether the checkpoint is whole and this trial's: another study may have written to a folder of the same name."""
    if not checkpoint.is_complete(folder):
        return False
    manifest = checkpoint.read(folder)
    metrics = {name: round(value, 6) for name, value in manifest.extras.get("metrics", {}).items()}
    same = (str(manifest.pattern), manifest.extras.get("seed"), metrics) == (row.pattern, row.seed, row.metrics)
    return bool(same)


def question_of(record: Record) -> What:
    """What the study asked, from its purpose and its facts."""
    values = record.purpose.values
    keys = {f.name: f"recipe.{f.name}" for f in fields(Recipe)}
    recipe = Recipe(**{name: values[key] for name, key in keys.items() if key in values})
    data = record.facts.get("data_folder")
    revision = str(values["revision"])
    local = revision.startswith("local-")
    return What(
        model=str(record.facts["model_folder"] if local else values["model"]),
        revision=None if local else revision,
        task=str(values["task"]),
        data=None if data is None else Path(data),
        space=str(record.facts["space_name"]),
        recipe=recipe,
        sampler=str(values.get("sampler", What.sampler)),
        holdout=float(values["holdout"]),
        method=values.get("method", "fine-tune"),
        columns=_columns(record.facts.get("columns")),
    )


def _columns(values: Mapping[str, Any] | None) -> Columns | None:
    if values is None:
        return None
    place = values["validation"]
    found = {**values, "label": tuple(values["label"]), "validation": None if place is None else Path(place)}
    return Columns(**found)


def _require_same(record: Record, row: Row, prepared: Prepared) -> None:
    """Raise StudyError where the model's folder or the data are not those that the study was made with."""
    folder = prepared.what.data
    lying = f"the data in {folder}" if folder else f"the data that task {prepared.task.name} gives"
    for key, what in (("revision", f"the model in {prepared.folder}"), ("data", lying)):
        there, here = record.purpose.values[key], prepared.purpose.values[key]
        if there != here:
            files = ["put the old files back"] if folder or key == "revision" else []
            versions = [_old_versions(row)] if key == "data" else []
            raise StudyError(
                f"{what} is not what study {record.name!r} was made with: {key} {there} there, {here} here; "
                f"{', '.join(files + versions)}, or search again under a new --study"
            )


def _old_versions(row: Row) -> str:
    made = row.versions or "which it does not tell"
    return f"use the versions that made the study ({made}; here is layersearch {version('layersearch')})"


def _train_again(row: Row, job: Job, prepared: Prepared, how: How, say: Say) -> Row:
    """Train the trial again, as `job`; the row with the score that these weights got."""
    outcome = make_evaluator(prepared, how)(job)
    if outcome.checkpoint is None:
        raise ExportError(f"training trial {row.number} again gave no weights: {outcome.reason or outcome.note}")
    say(f"trained again: {prepared.task.metric} {outcome.score:.4f}, the study has {row.score:.4f}")
    return replace(
        row,
        score=outcome.score,
        interval=outcome.interval,
        metrics=dict(outcome.metrics),
        versions=outcome.versions,
    )


def _start_of(record: Record, row: Row) -> tuple[str | None, float | None]:
    """The folder of weights that a trial started from, None for the base model's, and the work that it had."""
    if row.start is None:
        return None, None
    folder = Path(record.facts["networks"]) / row.start
    if not checkpoint.is_complete(folder):
        raise ExportError(
            f"the weights of trial {row.number} were not kept, and the model {folder} that it started from is gone; "
            "choose a trial whose weights are kept"
        )
    return str(folder), OneShotRecipe.tuning if from_network(row) else None


def _start_in_words(row: Row, method: str | None) -> str | None:
    """What a trial was trained from, for its card."""
    if row.start is None:
        return None
    if method == "tune-drop-tune":
        return "the fine-tuned unchanged model"
    if not from_network(row):
        return "the fine-tuned unchanged model, and taught by its answers"
    return (
        "the shared weights of a super-network, taught by the answers of its full model, for "
        f"{OneShotRecipe.tuning:g} of the work of fine-tuning the unchanged model"
    )


def _export(record: Record, row: Row, source: Path, to: Path, prepared: Prepared, form: Form | None) -> Proof:
    examples = prepared.splits.search
    texts = [
        (examples.text[i],) if examples.pair is None else (examples.text[i], examples.pair[i])
        for i in range(min(PROOF_EXAMPLES, len(examples)))
    ]
    card = _card(record, row, prepared.task.labels)
    length, validation = int(prepared.what.recipe.max_length), Validation(prepared.task, prepared.splits.validation)
    if form == "onnx":
        return export_onnx(source, to, prepared.folder, texts, card, length, validation)
    return export(source, to, prepared.folder, texts, card, length, form, validation)


def _card(record: Record, row: Row, labels: tuple[str, ...]) -> ModelCard:
    values = record.purpose.values
    recipe = {key.removeprefix("recipe."): value for key, value in values.items() if key.startswith("recipe.")}
    return ModelCard(
        base_model=str(values["model"]),
        revision=str(values["revision"]),
        task=str(values["task"]),
        labels=labels,
        metric=record.purpose.metric,
        scores=_scores(record, row),
        baseline_parameters=record.parameters,
        recipe=recipe,
        seed=row.seed,
        versions={name: version(name) for name in _LIBRARIES},
        trained_with=row.versions,
        command=str(record.facts.get("command", "(made from Python)")),
        start=_start_in_words(row, values.get("method")),
    )


def _scores(record: Record, row: Row) -> tuple[Score, ...]:
    """The search score and, where both patterns are confirmed, the confirmed one."""
    baseline = record.baseline
    share = float(record.purpose.values["holdout"])
    scores: list[Score] = []
    if baseline is not None and baseline.score is not None and row.score is not None:
        where = f"search split ({share:.0%} of the training data)"
        scores.append(Score(where, baseline.score, row.score, row.interval))
    there, here = record.confirmed.get(record.unchanged), record.confirmed.get(row.pattern)
    if there is not None and here is not None:
        fresh = "one fresh seed" if len(here.seeds) == 1 else f"mean of {len(here.seeds)} fresh seeds"
        scores.append(Score(f"validation set, {fresh}", there.mean, here.mean))
    return tuple(scores)
