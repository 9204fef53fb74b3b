"""The command line: words become calls, errors become one line.

Knows: the commands and their exits. Does not know: how anything is done. Heavy libraries are imported inside the
commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from layersearch.errors import LayersearchError, StoppedError
from layersearch.options import (
    CONFIRM,
    AsCsv,
    AsJson,
    Confirm,
    Device,
    Storage,
    StudyName,
    Trials,
    refused,
    spelled_out,
)
from layersearch.search.question import How, What, prepare

PLAN_LINES = 40

app = typer.Typer(add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def layersearch(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Find which layers of a pre-trained transformer a task can do without, and get checkpoints that load."""
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"layersearch {version_of('layersearch')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@spelled_out
def run(*, what: What, trials: Trials = None, confirm: Confirm = CONFIRM, how: How) -> None:
    """Search the front of score against parameters, confirm it, and say what to do next.

    The same command again continues the study.
    """
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
    print_next_commands(record, how.storage, How.storage)


@app.command()
@spelled_out
def plan(
    *,
    what: What,
    trials: Trials = None,
    confirm: Confirm = CONFIRM,
    limit: Annotated[int, typer.Option(min=0, help="Patterns to list; 0 lists all.")] = PLAN_LINES,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    _how: How,
) -> None:
    """Train nothing: list the patterns, their parameters, how each could be exported, and what a run would cost.

    Takes every word of `run`; those of speed and place (--study to --stall-seconds) change nothing here.
    """
    from layersearch.report.console import print_plan
    from layersearch.search.plan import cost, lines

    prepared = prepare(what)
    listed = list(lines(prepared, limit or None))
    if as_json or as_csv:
        _print_records([line.as_record() for line in listed], as_json=as_json)
        return
    print_plan(prepared, listed, cost(prepared, trials, confirm))


@app.command()
def front(
    study: StudyName = None,
    storage: Storage = How.storage,
    png: Annotated[Path | None, typer.Option(help="Draw the front into this file.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every complete trial, not only the front.")] = False,
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
    print_front(record, everything=everything)


@app.command()
def export(
    trial: Annotated[int, typer.Option(help="Number of the trial, from the first column of `layersearch front`.")],
    to: Annotated[Path, typer.Option(help="Folder to make; must not hold anything.")],
    study: StudyName = None,
    storage: Storage = How.storage,
    device: Device = How.device,
) -> None:
    """Write a trial as a Hugging Face folder that plain `from_pretrained` opens, proven in a fresh process."""
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
    storage: Storage = How.storage,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8080,
    writable: Annotated[bool, typer.Option(help="Allow changes and deletions; there is no password.")] = False,
) -> None:
    """Open the studies of a database in optuna-dashboard, read-only, for this machine only."""
    from layersearch.report.dashboard import serve

    serve(storage, port, writable=writable, say=_say)


def main() -> None:
    """Run the command line. A LayersearchError becomes one line and exit 1, wrong words one and exit 2, a stop 130."""
    try:
        sys.exit(app(prog_name="layersearch", standalone_mode=False))
    except typer.TyperException as error:
        _say(f"error: {refused(error)}")
        sys.exit(error.exit_code)
    except StoppedError as stop:
        _say(str(stop))
        sys.exit(130)
    except LayersearchError as error:
        _say(f"error: {error}")
        sys.exit(1)


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
