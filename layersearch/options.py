"""The options that commands share, each listed once, and what they make: what is asked, and how it is done.

Knows: their words, help and types, and which belong together; the defaults are those of What, Lookup and How. Does not
know: commands, how anything is done, the words of a recipe (`recipe_options.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from layersearch.completion import spaces, studies, tasks
from layersearch.errors import WordsError
from layersearch.models.families import Form
from layersearch.recipe_options import DEFAULT, Seed
from layersearch.search.objectives import COSTS, SCORE, parse_limit, parse_objectives
from layersearch.search.question import How, Keep, Lookup, Method, What
from layersearch.tasks.own import Columns
from layersearch.training.recipe import Recipe

CONFIRM = 3
PLAN_LINES = 40
LONGEST_NAME = 200  # bytes of a study's name, of which a file system takes 255 with what is added
OBJECTIVES = ",".join(What.objectives)

ExportForm = Literal["native", "code", "onnx"]
FORMS: Mapping[ExportForm, Form] = {"native": "native", "code": "with code", "onnx": "onnx"}

Asked = What | Lookup  # the two kinds of questions

Model = Annotated[
    str | None,
    typer.Option(help="Base model: hub name, folder, or package:NAME/FOLDER inside an installed Python package."),
]
Task = Annotated[
    str | None,
    typer.Option(
        help="cola, sst2, mrpc, stsb, qqp, mnli, mnli-mm, qnli, rte, wnli, demo, squad, squad2, conll, own for your "
        "own table, perplexity of a text, or images in folders.",
        autocompletion=tasks,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the task's own files; GLUE's TSV layout instead of the hub; for own a file in csv, tsv, "
        "jsonl or parquet or a saved datasets folder; for perplexity a text file; for images a folder a class."
    ),
]
Text = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the own table that holds the text.")]
TextPair = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the second text of a pair.")]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Column of the label; repeatable: columns of 0 and 1, any number of them 1."),
]
Metric = Annotated[str | None, typer.Option(help="What the search is for, such as f1; default by the labels.")]
Validation = Annotated[Path | None, typer.Option(help="Own table to confirm on; default 15 % of --data.")]
Examples = Annotated[
    int | None,
    typer.Option(min=0, help="Rows of the own table to use at most, drawn; 100,000 by default, 0 takes all."),
]
Space = Annotated[
    str, typer.Option(help="Search space: a shipped name (layers, halves, ...) or a TOML file.", autocompletion=spaces)
]
Revision = Annotated[str | None, typer.Option(help="Revision of the base model on the hub.")]
Sampler = Annotated[
    str,
    typer.Option(help="Optuna sampler by class name, such as TPESampler; greedy (layer after layer) or exhaustive."),
]
Holdout = Annotated[float, typer.Option(help="Share of the training data that scores the search.")]
MeasureOn = Annotated[
    Path | None, typer.Option(help="Folder of a fine-tuned model on which strategies are measured, not the base model.")
]

MethodName = Annotated[
    Method,
    typer.Option(
        help="one-shot: the best ones of a super-network; distill: each from the fine-tuned unchanged model, taught by "
        "it; tune-drop-tune: so too, not taught; fine-tune: each from the pre-trained model; halving: so too, and in "
        "steps, the best further than the rest."
    ),
]

Objectives = Annotated[
    str,
    typer.Option(
        metavar="NAME,NAME[,NAME]", help=f"What the front is of: metric, and one or two of {', '.join(COSTS)}."
    ),
]
MaxParams = Annotated[
    str | None,
    typer.Option(metavar="LIMIT", help="Most parameters of a candidate: 60% of the unchanged model's, or 66M."),
]
MaxMacs = Annotated[
    str | None, typer.Option(metavar="LIMIT", help="Most multiply-accumulates for --max-length tokens: 60% or 2.5G.")
]
MaxLatency = Annotated[
    str | None, typer.Option(metavar="LIMIT", help="Longest time for one sequence of --max-length tokens: 60% or 8ms.")
]
MinScore = Annotated[
    str | None,
    typer.Option(metavar="LIMIT", help="Least score of a front member: 0.8, or 98% of the unchanged model's."),
]

Replay = Annotated[
    Path | None, typer.Option(help="Take scores from this CSV file and train nothing, in place of --model and --task.")
]
Score = Annotated[str, typer.Option(metavar="COLUMN", help="Column of the table that holds the scores.")]
Where = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only rows of the table with this value; repeatable.")
]
Minimize = Annotated[bool, typer.Option("--minimize", help="The lower a score of the table, the better.")]

StudyOption = Annotated[
    str | None, typer.Option("--study", help="Name of the study; default MODEL-TASK-SPACE, or FILE-SPACE.")
]
Storage = Annotated[
    str, typer.Option(help="SQLite file, or URL of an SQLite or PostgreSQL database.", envvar="LAYERSEARCH_STORAGE")
]
Files = Annotated[Path, typer.Option(help="Folder for checkpoints.")]
KeepCheckpoints = Annotated[
    Keep, typer.Option(help="Whose weights stay on the disk; `export` trains again what did not.")
]
Disk = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Most that the study's files may take, such as 10GB; the least useful go first."),
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Candidates at once; default one a core or GPU, 0 without Ray.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
RayAddress = Annotated[str, typer.Option(help="local, or the address of a running Ray cluster.")]
StallSeconds = Annotated[float, typer.Option(min=1, help="A worker without progress for so long is ended.")]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        help="Begin no candidate after so long (90s, 30m, 1h30m); what runs and the confirmation come on top."
    ),
]
UntilPlateau = Annotated[
    bool, typer.Option("--until-plateau", help="Begin no candidate once the front stands still; --trials at most.")
]
StartFrom = Annotated[
    list[str] | None,
    typer.Option(metavar="STUDY[@STORAGE]", help="Try the front of another study first, scaled by depth; repeatable."),
]

Trials = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Finished trials that the study shall hold, those stopped by halving too; a larger number goes on. "
        "Default 40; one-shot: its front.",
    ),
]
Confirm = Annotated[
    int | None,
    typer.Option(min=0, help=f"Fresh seeds that confirm each front member; default {CONFIRM}, 0 leaves it out."),
]
Replicates = Annotated[
    int,
    typer.Option(min=0, help="Further seeds at most, before the confirmation, for patterns near the front."),
]
PlanLimit = Annotated[int, typer.Option(min=0, help="Patterns to list; 0 lists all.")]
StudyName = Annotated[
    str | None,
    typer.Argument(metavar="[STUDY]", help="Name of the study; may be left out if alone.", autocompletion=studies),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


def asked(
    model: Model = None,
    task: Task = None,
    data: Data = What.data,
    space: Space = What.space,
    recipe: Recipe = DEFAULT,
    seed: Seed = Recipe.seed,
    sampler: Sampler = What.sampler,
    holdout: Holdout = What.holdout,
    revision: Revision = What.revision,
    method: MethodName = What.method,
    measure_on: MeasureOn = What.measured_on,
    objectives: Objectives = OBJECTIVES,
    max_params: MaxParams = None,
    max_macs: MaxMacs = None,
    max_latency: MaxLatency = None,
    min_score: MinScore = None,
    replay: Replay = None,
    score: Score = Lookup.score,
    where: Where = None,
    minimize: Minimize = False,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    metric: Metric = None,
    validation: Validation = None,
    examples: Examples = None,
) -> Asked:
    """What is asked: everything that decides a result, and is stored in the study."""
    if replay is not None:
        pairs = tuple(_pair(text) for text in where or ())
        twice = [name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1]
        if twice:
            raise WordsError(f"--where names the column {twice[0]} twice; a row has one value in it: choose one")
        return Lookup(replay, score, pairs, "minimize" if minimize else "maximize", space, sampler, seed)
    if model is None or task is None:
        raise WordsError("name --model and --task, or a table of known scores with --replay FILE")
    given = {"parameters": max_params, "macs": max_macs, "latency": max_latency, SCORE: min_score}
    wanted = parse_objectives(objectives)
    limits = tuple(parse_limit(name, text) for name, text in given.items() if text is not None)
    columns = columns_of(text, text_pair, label, metric, validation, examples)
    chosen = model, task, data, space, recipe, sampler, holdout, revision, method
    return What(*chosen, wanted, limits, measure_on, columns)


def columns_of(
    text: str | None,
    pair: str | None,
    label: list[str] | None,
    metric: str | None,
    validation: Path | None = None,
    examples: int | None = None,
) -> Columns | None:
    """The columns of the user's own table; None where nothing is said of one. Raises WordsError for half of them."""
    if text is not None and text == pair:
        raise WordsError(
            f"--text {text} and --text-pair {pair} are one column; name the column of the second text, or leave "
            "--text-pair out"
        )
    if text is not None and label:
        return Columns(text, tuple(label), pair, metric, validation, examples)
    if text is not None or label:
        lacks = "--text COLUMN" if text is None else "--label COLUMN"
        raise WordsError(f"--text and --label name the two columns of a table of your own: add {lacks}")
    further = {"text-pair": pair, "metric": metric, "validation": validation, "examples": examples}
    said = [f"--{word}" for word, value in further.items() if value is not None]
    if said:
        raise WordsError(
            f"{said[0]} is about a table of your own: name its columns too, with --text COLUMN and --label COLUMN"
        )
    return None


def _pair(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not (column and sign):
        raise WordsError(f"--where {text} is not possible; allowed: COLUMN=VALUE, such as task=rte")
    return column, value


def placed(
    what: Asked,
    study: StudyOption = None,
    storage: Storage = How.storage,
    files: Files = How.files,
    workers: Workers = How.workers,
    device: Device = How.device,
    ray_address: RayAddress = How.ray_address,
    stall_seconds: StallSeconds = How.stall_seconds,
    time: TimeLimit = None,
    until_plateau: UntilPlateau = How.until_plateau,
    start_from: StartFrom = None,
    keep_checkpoints: KeepCheckpoints = How.keep,
    disk: Disk = None,
) -> How:
    """How it is done: everything that decides only speed, place, order and end."""
    if study is not None and (not study.strip() or "/" in study or study in (".", "..")):
        raise WordsError(
            f"--study {study!r} is not possible: a folder is called so; allowed: a name without a slash, such as "
            f"{what.default_name}, which it is if you leave --study out"
        )
    if study is not None and len(study.encode()) > LONGEST_NAME:
        raise WordsError(f"--study is {len(study.encode())} bytes long; allowed: {LONGEST_NAME}, a folder is called so")
    return How(
        study or what.default_name,
        storage,
        files,
        workers,
        device,
        ray_address,
        stall_seconds,
        None if time is None else _seconds(time),
        until_plateau,
        tuple(start_from or ()),
        keep_checkpoints,
        None if disk is None else _bytes(disk),
    )


def _bytes(text: str) -> int:
    """The bytes of `500MB`, `10GB` or `1.5TB`, of which each unit is a thousand of the next."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt])b?", text.strip().lower())
    size = round(float(found[1]) * 1000 ** (1 + "kmgt".index(found[2]))) if found else 0
    if size == 0:
        raise WordsError(f"--disk {text} is not possible; allowed: a size such as 500MB, 10GB or 1.5TB")
    return size


def _seconds(text: str) -> float:
    """The seconds of `90s`, `30m`, `2h` or `1h30m`."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip().lower())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if total == 0:
        raise WordsError(f"--time {text} is not possible; allowed: a time such as 90s, 30m, 2h or 1h30m")
    return float(total)
