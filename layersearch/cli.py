"""The command line: words become calls, errors become one line.

Knows: the commands, their options and exits. Does not know: how anything is done. Heavy libraries are imported inside
the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layersearch.errors import LayersearchError, StoppedError

if TYPE_CHECKING:
    from layersearch.search.question import How, What

STORAGE = "layersearch.db"
FILES = "layersearch-files"
PLAN_LINES = 40

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find which layers of a pre-trained transformer a task can do without, and get checkpoints that load.",
)

# What is asked: stored in the study.
Model = Annotated[
    str, typer.Option(help="Base model: hub name, folder, or package:NAME/FOLDER inside an installed Python package.")
]
Task = Annotated[str, typer.Option(help="cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli or demo.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder with the task's TSV files in GLUE's layout, instead of the hub.")
]
Space = Annotated[str, typer.Option(help="Search space: a shipped name (layers, halves, ...) or a TOML file.")]
Revision = Annotated[str | None, typer.Option(help="Revision of the base model on the hub.")]
Sampler = Annotated[str, typer.Option(help="Optuna sampler by class name, such as TPESampler or RandomSampler.")]
Holdout = Annotated[float, typer.Option(help="Share of the training data that scores the search.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="default, glue-readme, run-glue-defaults or demo.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate, instead of the recipe's.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a step, instead of the recipe's.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training part, instead of the recipe's.")]
Warmup = Annotated[float | None, typer.Option(help="Share of the steps in which the learning rate rises.")]
WeightDecay = Annotated[float | None, typer.Option(help="Weight decay, instead of the recipe's.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens an example, instead of the recipe's.")]
Precision = Annotated[str | None, typer.Option(help="auto (bf16 where the hardware has it), bf16 or fp32.")]
Seed = Annotated[int, typer.Option(help="Seed of the split, the sampler and the fine-tuning.")]
Trials = Annotated[int, typer.Option(min=1, help="Finished trials that the study shall hold; a larger number goes on.")]
Confirm = Annotated[int, typer.Option(min=0, help="Fresh seeds that confirm each front member; 0 leaves it out.")]

# How it is done: only speed and place.
Storage = Annotated[
    str, typer.Option(help="SQLite file or SQLAlchemy URL of the database.", envvar="LAYERSEARCH_STORAGE")
]
Files = Annotated[Path, typer.Option(help="Folder for checkpoints.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Candidates at once; default one a core or GPU, 0 without Ray.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
RayAddress = Annotated[str, typer.Option(help="local, or the address of a running Ray cluster.")]
StallSeconds = Annotated[float, typer.Option(min=1, help="A worker without progress for so long is ended.")]
StudyName = Annotated[
    str | None, typer.Argument(metavar="[STUDY]", help="Name of the study; may be left out if alone.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


@app.command()
def run(
    model: Model,
    task: Task,
    data: Data = None,
    space: Space = "layers",
    trials: Trials = 40,
    confirm: Confirm = 3,
    study: Annotated[str | None, typer.Option(help="Name of the study; default MODEL-TASK-SPACE.")] = None,
    recipe: RecipeName = "default",
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    epochs: Epochs = None,
    warmup: Warmup = None,
    weight_decay: WeightDecay = None,
    max_length: MaxLength = None,
    precision: Precision = None,
    seed: Seed = 0,
    sampler: Sampler = "NSGAIISampler",
    holdout: Holdout = 0.15,
    revision: Revision = None,
    storage: Storage = STORAGE,
    files: Files = Path(FILES),
    workers: Workers = None,
    device: Device = "auto",
    ray_address: RayAddress = "local",
    stall_seconds: StallSeconds = 600.0,
) -> None:
    """Search the front of score against parameters, confirm it, and say what to do next.

    The same command again continues the study.
    """
    from layersearch.search.question import How

    what = _what(**{name: value for name, value in locals().items() if name in _WHAT})
    how = How(
        name=study or what.default_name,
        storage=storage,
        files=files,
        workers=workers,
        device=device,
        ray_address=ray_address,
        stall_seconds=stall_seconds,
    )
    _search(what, how, trials, confirm)


@app.command()
def plan(
    model: Model,
    task: Task,
    data: Data = None,
    space: Space = "layers",
    trials: Trials = 40,
    confirm: Confirm = 3,
    recipe: RecipeName = "default",
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    epochs: Epochs = None,
    warmup: Warmup = None,
    weight_decay: WeightDecay = None,
    max_length: MaxLength = None,
    precision: Precision = None,
    seed: Seed = 0,
    sampler: Sampler = "NSGAIISampler",
    holdout: Holdout = 0.15,
    revision: Revision = None,
    limit: Annotated[int, typer.Option(min=0, help="Patterns to list; 0 lists all.")] = PLAN_LINES,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Train nothing: list the patterns, their parameters, how each could be exported, and what a run would cost."""
    from layersearch.report.console import print_plan
    from layersearch.search.plan import cost, lines
    from layersearch.search.question import prepare

    prepared = prepare(_what(**{name: value for name, value in locals().items() if name in _WHAT}))
    listed = list(lines(prepared, limit or None))
    if as_json or as_csv:
        _print_records([line.as_record() for line in listed], as_json=as_json)
        return
    print_plan(prepared, listed, cost(prepared, trials, confirm))


@app.command()
def front(
    study: StudyName = None,
    storage: Storage = STORAGE,
    png: Annotated[Path | None, typer.Option(help="Draw the front into this file.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="With --csv or --json: every complete trial.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Print the front of a study, and draw it."""
    from layersearch.report.console import print_front
    from layersearch.search.record import read_study

    record = read_study(storage, study, _say)
    if png is not None:
        from layersearch.report.figures import draw_front

        draw_front(record, png)
        _say(f"drawn: {png}")
    if as_json or as_csv:
        _print_records(record.records(everything=everything), as_json=as_json)
        return
    print_front(record)


@app.command()
def export(
    trial: Annotated[int, typer.Option(help="Number of the trial, from the first column of `layersearch front`.")],
    to: Annotated[Path, typer.Option(help="Folder to make; must not hold anything.")],
    study: StudyName = None,
    storage: Storage = STORAGE,
    device: Device = "auto",
) -> None:
    """Write a trial as a Hugging Face folder that plain `from_pretrained` opens, proven in a fresh process."""
    from layersearch.search.question import How
    from layersearch.search.record import read_study
    from layersearch.search.ship import ship

    record = read_study(storage, study, _say)
    how = How(name=record.name, storage=storage, workers=0, device=device)
    proof = ship(record, trial, to, how, _say)
    typer.echo(
        f"{to}: proven in a fresh process in {proof.seconds:.1f} s: no missing or unexpected key, "
        f"{proof.parameters:,} parameters as counted, logits of {proof.inputs} examples equal within "
        f"{proof.max_difference:.1e} (allowed {proof.tolerance:.1e})"
    )
    typer.echo(f'open it with AutoModelForSequenceClassification.from_pretrained("{to}")')


@app.command()
def dashboard(
    storage: Storage = STORAGE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8080,
    writable: Annotated[bool, typer.Option(help="Allow changes and deletions; there is no password.")] = False,
) -> None:
    """Open the studies of a database in optuna-dashboard, read-only, for this machine only."""
    from layersearch.report.dashboard import serve

    serve(storage, port, writable=writable, say=_say)


def main() -> None:
    """Run the command line; a LayersearchError becomes one line and exit 1, a stop exit 130, a bug a trace."""
    try:
        app(standalone_mode=True)
    except StoppedError as stop:
        _say(str(stop))
        sys.exit(130)
    except LayersearchError as error:
        _say(f"error: {error}")
        sys.exit(1)


_WHAT = {
    *("model", "task", "data", "space", "sampler", "holdout", "revision"),
    *("recipe", "lr", "batch_size", "epochs", "warmup", "weight_decay", "max_length", "precision", "seed"),
}


def _what(**words: Any) -> What:
    """What is asked, from the options that decide a result."""
    from layersearch.search.question import What
    from layersearch.training.recipe import preset

    recipe = preset(words.pop("recipe")).with_(
        learning_rate=words.pop("lr"),
        **{name: words.pop(name) for name in ("batch_size", "epochs", "warmup", "weight_decay")},
        **{name: words.pop(name) for name in ("max_length", "precision", "seed")},
    )
    return What(**words, recipe=recipe)


def _search(what: What, how: How, trials: int, confirm: int) -> None:
    """Run with progress on the terminal, then print the front and the next commands; after a stop what is known."""
    from layersearch.report.console import Progress, print_front, print_next_commands
    from layersearch.search.record import read_study
    from layersearch.search.run import run as search

    try:
        with Progress() as progress:
            command = _without_password(shlex.join(["layersearch", *sys.argv[1:]]), how.storage)
            search(what, how, trials=trials, confirm=confirm, watcher=progress, command=command)
    except StoppedError:
        print_front(read_study(how.storage, how.name, _say))
        raise
    record = read_study(how.storage, how.name, _say)
    print_front(record)
    print_next_commands(record, how.storage, STORAGE)


def _without_password(command: str, storage: str) -> str:
    """The command as it may be written down: the storage without its password."""
    from layersearch.search.storage import parse_url, shown

    return command.replace(storage, shown(parse_url(storage))) if "://" in storage else command


def _print_records(records: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(records, indent=1))
    elif records:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def _say(line: str) -> None:
    typer.echo(line, err=True)
