"""The question of a study asked again, and its trials trained again: from their seeds, with what they started from.

Knows: the record of a study, and which models have to be made before a trial. Does not know: why somebody wants the
weights, how anything is trained, exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from layersearch.errors import ExportError, StudyError, WordsError
from layersearch.models import checkpoint
from layersearch.pattern import Pattern, thirds
from layersearch.search.agreement import from_network
from layersearch.search.measured_costs import with_stored
from layersearch.search.objectives import METRIC, limits_in
from layersearch.search.one_shot import first_patterns
from layersearch.search.preparing import prepare
from layersearch.search.question import How, Prepared, What
from layersearch.search.record import Record
from layersearch.search.run import make_evaluator
from layersearch.search.spelling import knowing
from layersearch.search.storage import Say
from layersearch.search.trials import Row
from layersearch.search_space import SearchSpace
from layersearch.tasks.own import Columns
from layersearch.training.job import Job
from layersearch.training.recipe import FIRST_TRAINING, OneShotRecipe, Recipe
from layersearch.training.steps import Heartbeat

SEARCH_AGAIN = "search again under a new --study"


def question_of(record: Record) -> What:
    """What the study asked, from its purpose and its facts."""
    values = record.purpose.values
    keys = {f.name: f"recipe.{f.name}" for f in fields(Recipe)}
    recipe = Recipe(**{name: values[key] for name, key in keys.items() if key in values})
    data = record.facts.get("data_folder")
    revision = str(values["revision"])
    local = revision.startswith("local-")
    named = str(values["model"])
    at_hand = named.startswith("package:") and not Path(record.facts["model_folder"]).exists()
    return What(
        model=str(record.facts["model_folder"]) if local and not at_hand else named,
        revision=None if local else revision,
        task=str(values["task"]),
        data=None if data is None else Path(data),
        space=str(record.facts["space_name"]),
        recipe=recipe,
        sampler=str(values.get("sampler", What.sampler)),
        holdout=float(values["holdout"]),
        method=values.get("method", "fine-tune"),
        objectives=(METRIC, *record.purpose.costs),
        limits=limits_in(str(values.get("limits", ""))),
        columns=_columns(record.facts.get("columns")),
    )


def _columns(values: Mapping[str, Any] | None) -> Columns | None:
    if values is None:
        return None
    place = values["validation"]
    found = {**values, "label": tuple(values["label"]), "validation": None if place is None else Path(place)}
    return Columns(**found)


def prepared_again(record: Record, row: Row, what: What | None = None, instead: str = SEARCH_AGAIN) -> Prepared:
    """The study's question with its parts looked up, which have to be those that trial `row` was made with.

    `what` stands in for the question where its parts lie elsewhere by now. Raises StudyError where the model or the
    data are not the same, and offers what is possible `instead`; and whatever is wrong with either.
    """
    space = SearchSpace.model_validate_json(record.purpose.values["space"])
    what = what or question_of(record)
    try:
        prepared = prepare(what, space)
    except WordsError as error:  # nobody typed these words now
        raise StudyError(f"study {record.name!r} cannot be asked again: {error}") from None
    columns = what.columns
    first = record.purpose.training == FIRST_TRAINING  # when all rows of a large table were taken
    moved = prepared.purpose.values["data"] != record.purpose.values["data"]
    if first and moved and columns and columns.examples is None:
        prepared = prepare(replace(what, columns=replace(columns, examples=0)), space)
    require_same(record, row, prepared, instead)
    return prepared


def asked_again(record: Record, what: What | None = None, instead: str = SEARCH_AGAIN) -> Prepared:
    """The question that a study was made for, as its own driver had it but for how is trained; nothing is measured.

    `what` and `instead` are as in `prepared_again`. Raises StudyError for a study over a table, for one without a trial
    and for a model or data that have changed, and the errors of `prepare` for those that are gone.
    """
    if "replay" in record.facts:
        raise StudyError(
            f"study {record.name!r} took its scores from {record.facts['replay']} and trained no model; search with "
            "`layersearch run` to have something to train again"
        )
    if not record.rows:
        raise StudyError(f"study {record.name!r} has no trial yet; continue it with `layersearch run`")
    prepared = prepared_again(record, record.baseline or record.rows[0], what, instead)
    purpose = replace(record.purpose, training=prepared.purpose.training)
    told = replace(prepared, space=knowing(prepared, record.facts.get("spelled", {})).space, purpose=purpose)
    measured = record.facts.get("measured")
    return told if measured is None else with_stored(told, measured)


def require_same(record: Record, row: Row, prepared: Prepared, instead: str = SEARCH_AGAIN) -> None:
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
                f"{', '.join(files + versions)}, or {instead}"
            )


def _old_versions(row: Row) -> str:
    made = row.versions or "which it does not tell"
    return f"use the versions that made the study ({made}; here is layersearch {version('layersearch')})"


def jobs_again(record: Record, row: Row, prepared: Prepared, folder: Path) -> list[Job]:
    """The jobs that make the weights of a trial again in `folder`, one after another, the trial's own the last.

    What it started from is taken from the study where that still lies there, else made again from its seed.
    """
    start, before = _start_again(record, row, prepared, folder)
    budget = OneShotRecipe.tuning if from_network(row) else None
    where = None if start is None else str(start)
    last = Job(row.number, row.pattern, row.seed, checkpoint=str(folder / "checkpoint"), start=where, budget=budget)
    return [*before, last]


def _start_again(record: Record, row: Row, prepared: Prepared, folder: Path) -> tuple[Path | None, list[Job]]:
    """Where the weights lie, or will, that a trial starts from; and the jobs that make them."""
    if row.start is None:
        return None, []
    alike = record.purpose.training == prepared.purpose.training  # else its networks are not what it would start from
    kept = Path(record.facts["networks"]) if alike and "networks" in record.facts else folder
    if checkpoint.is_complete(kept / row.start):
        return kept / row.start, []
    seed = int(row.start.rpartition("-")[2])
    whole, jobs = kept / f"unchanged-{seed}", list[Job]()
    if not checkpoint.is_complete(whole):
        whole = folder / whole.name
        jobs = [Job(-1 - seed, record.unchanged, seed, checkpoint=str(whole))]
    if not from_network(row):
        return whole, jobs
    network = folder / row.start
    shared = tuple(map(str, _shared(record, prepared)))
    made = Job(-1 - seed, record.unchanged, seed, checkpoint=str(network), start=str(whole), patterns=shared)
    return network, [*jobs, replace(made, scores=False)]


def _shared(record: Record, prepared: Prepared) -> tuple[Pattern, ...]:
    """The patterns that the study's super-networks were trained for."""
    known = record.facts.get("measured")
    costs = (prepared if known is None else with_stored(prepared, known)).costs
    space = knowing(prepared, record.facts.get("spelled", {})).space
    starts = tuple(map(Pattern.parse, record.facts.get("start_from", ())))
    return first_patterns(space, costs, prepared.seed, starts)


def cost_again(row: Row, jobs: list[Job], num_layers: int) -> str:
    """What `jobs` cost, in words: fine-tunings of the unchanged model, and seconds where the study was made."""
    work = row.work or 0.0
    for job in jobs[:-1]:
        sizes = [thirds(Pattern.parse(text).blocks) / (3 * num_layers) for text in job.patterns]
        work += OneShotRecipe.epochs * (1 + sum(sizes) / len(sizes)) if sizes else 1.0
    seconds = (row.train_seconds or 0.0) * (work / row.work if row.work else 1.0)
    named = f"{work:.2g} fine-tunings of the unchanged model, " if row.work else ""
    return f"about {named}{seconds:.0f} s"


def train_again(
    row: Row, jobs: list[Job], prepared: Prepared, how: How, say: Say, heartbeat: Heartbeat = lambda _: None
) -> Row:
    """Do `jobs`; the row with the score that the trial's weights got now. They lie where the last job has them.

    Raises ExportError for one that fails.
    """
    evaluate = make_evaluator(prepared, how)
    for job in jobs[:-1]:
        say(f"{'the super-network' if job.patterns else 'the unchanged model'} of seed {job.seed} is trained again")
        made = evaluate(job, heartbeat)
        if made.checkpoint is None:
            raise ExportError(f"what trial {row.number} started from cannot be made again: {made.reason or made.note}")
    outcome = evaluate(jobs[-1], heartbeat)
    if outcome.checkpoint is None:
        raise ExportError(f"training trial {row.number} again gave no weights: {outcome.reason or outcome.note}")
    then = row.seeds[0] if row.seeds else row.score
    say(f"trained again: {prepared.task.metric} {outcome.score:.4f}, the study has {then:.4f}")
    return replace(
        row,
        score=outcome.score,
        interval=outcome.interval,
        seeds=(),
        redrawn=outcome.redrawn,
        metrics=dict(outcome.metrics),
        versions=outcome.versions,
    )
