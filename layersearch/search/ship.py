"""A trial of a study becomes an exported folder: from its kept checkpoint, or trained again.

Knows: the record of a study and how to repeat one of its trials. Does not know: what an export looks like, words of the
command line.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from layersearch.counts import count
from layersearch.errors import ExportError
from layersearch.models import checkpoint
from layersearch.models.card import Data, LatencyRow, ModelCard, Score
from layersearch.models.case import Proof, Validation
from layersearch.models.export import check_exportable, export, require_free
from layersearch.models.families import Form
from layersearch.models.onnx import require_onnx
from layersearch.models.onnx_export import export_onnx
from layersearch.names import model_name
from layersearch.pattern import Pattern
from layersearch.search.again import cost_again, jobs_again, prepared_again, train_again
from layersearch.search.agreement import from_network
from layersearch.search.divergence import told_of
from layersearch.search.question import How, Prepared
from layersearch.search.record import Record
from layersearch.search.reproduce import question_in
from layersearch.search.storage import Say
from layersearch.search.times import in_words, times_of
from layersearch.search.trials import Row, kept_share
from layersearch.tasks.glue import GLUE, REPOSITORY
from layersearch.training.recipe import OneShotRecipe, Recipe

PROOF_EXAMPLES = 32  # of the search split, on which the exported folder must repeat the logits
TAUGHT_BY = {"logits": "answers", "hidden": "hidden states", "logits+hidden": "answers and hidden states"}
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
    prepared = prepared_again(record, row)
    if row.checkpoint is not None and _belongs_to(row, Path(row.checkpoint)):
        return _export(record, row, Path(row.checkpoint), to, prepared, form)
    with TemporaryDirectory(prefix="layersearch-") as scratch:
        jobs = jobs_again(record, row, prepared, Path(scratch))
        cost = cost_again(row, jobs, prepared.num_layers)
        say(f"the weights of trial {number} were not kept: it is trained again, {cost}")
        again = train_again(row, jobs, prepared, how, say)
        told, training = record.purpose, prepared.purpose.training
        if told.training != training:
            say(f"the study was trained in version {told.training} of the training, and this trial now in {training}")
            record = replace(record, purpose=replace(told, training=training))
        return _export(record, again, Path(str(jobs[-1].checkpoint)), to, prepared, form)


def _belongs_to(row: Row, folder: Path) -> bool:
    """Whether the checkpoint is whole and this trial's: another study may have written to a folder of the same name."""
    if not checkpoint.is_complete(folder):
        return False
    manifest = checkpoint.read(folder)
    metrics = {name: round(value, 6) for name, value in manifest.extras.get("metrics", {}).items()}
    same = (str(manifest.pattern), manifest.extras.get("seed"), metrics) == (row.pattern, row.seed, row.metrics)
    return bool(same)


def _start_in_words(row: Row, method: str | None, teach: str) -> str | None:
    """What a trial was trained from, and by what of its teacher, for its card."""
    if row.start is None:
        return None
    if method == "tune-drop-tune":
        return "the fine-tuned unchanged model"
    if not from_network(row):
        return f"the fine-tuned unchanged model, and taught by its {TAUGHT_BY[teach]}"
    return (
        f"the shared weights of a super-network, taught by the {TAUGHT_BY[teach]} of its full model, for "
        f"{OneShotRecipe.tuning:g} of the work of fine-tuning the unchanged model"
    )


def _export(record: Record, row: Row, source: Path, to: Path, prepared: Prepared, form: Form | None) -> Proof:
    examples = prepared.splits.search
    texts = [
        (examples.text[i],) if examples.pair is None else (examples.text[i], examples.pair[i])
        for i in range(min(PROOF_EXAMPLES, len(examples)))
    ]
    card, question = _card(record, row, prepared), question_in(record, row)
    length, validation = int(prepared.what.recipe.max_length), Validation(prepared.task, prepared.splits.validation)
    if form == "onnx":
        return export_onnx(source, to, prepared.folder, texts, card, length, question, validation)
    return export(source, to, prepared.folder, texts, card, length, question, form, validation)


def _card(record: Record, row: Row, prepared: Prepared) -> ModelCard:
    values = record.purpose.values
    recipe = {key.removeprefix("recipe."): value for key, value in values.items() if key.startswith("recipe.")}
    named = str(values["model"])
    if str(values["revision"]).startswith("local-") and not named.startswith("package:"):
        named = model_name(str(record.facts["model_folder"]))
    return ModelCard(
        base_model=named,
        revision=str(values["revision"]),
        task=str(values["task"]),
        labels=prepared.task.labels,
        metric=record.purpose.metric,
        scores=_scores(record, row),
        baseline_parameters=record.parameters,
        recipe=recipe,
        seed=row.seed,
        versions={name: version(name) for name in _LIBRARIES},
        trained_with=row.versions,
        command=str(record.facts.get("command", "(made from Python)")),
        start=_start_in_words(row, values.get("method"), values.get("recipe.teach", Recipe.teach)),
        data=_data(record, prepared),
        confirmed_with=record.confirmed[row.pattern].seeds if row.pattern in record.confirmed else (),
        times=_times(record, row),
        diverged=told_of(row, record.divergences.get(row.pattern), record.purpose.direction),
        hardware=str((record.facts.get("timed_on") or record.facts.get("measured") or {}).get("hardware", "")),
    )


def _data(record: Record, prepared: Prepared) -> Data:
    """What the data are called: by the hub for GLUE, else by the task, a table of the user's own by its file."""
    name, splits, folder = prepared.task.name, prepared.splits, prepared.what.data
    layout = GLUE.get(name)
    sizes = (len(splits.train), len(splits.search), len(splits.validation))
    if layout is not None:
        return Data(f"GLUE {layout.folder}", REPOSITORY, layout.hub or name, sizes, splits.fingerprint)
    called = folder.name if folder is not None and "columns" in record.facts else name
    return Data(called, name, None, sizes, splits.fingerprint)


def _times(record: Record, row: Row) -> tuple[LatencyRow, ...]:
    """What the clock said of the built candidate beside the unchanged model."""
    unchanged = times_of(record.facts, record.unchanged)
    return tuple(
        LatencyRow(in_words(setting), unchanged[setting].median if setting in unchanged else None, time.median)
        for setting, time in record.times(row).items()
    )


def _scores(record: Record, row: Row) -> tuple[Score, ...]:
    """The search score and, where both patterns are confirmed, the confirmed one."""
    baseline = record.baseline
    share = float(record.purpose.values["holdout"])
    scores: list[Score] = []
    if baseline is not None and baseline.score is not None and row.score is not None:
        where = f"search split ({share:.0%} of the training data)"
        kept = kept_share(row.score, baseline.score, record.purpose.direction)
        scores.append(Score(where, baseline.score, row.score, row.interval, baseline.interval, kept))
    there, here = record.confirmed.get(record.unchanged), record.confirmed.get(row.pattern)
    if there is not None and here is not None:
        fresh = "one fresh seed" if len(here.seeds) == 1 else f"mean of {count(len(here.seeds), 'fresh seed')}"
        kept = record.kept_again(row.pattern)
        sure = {pattern: record.certainty[pattern].interval for pattern in (row.pattern, record.unchanged)}
        intervals = sure[row.pattern], sure[record.unchanged]
        scores.append(Score(f"validation set, {fresh}", there.mean, here.mean, *intervals, kept, confirmed=True))
    return tuple(scores)
