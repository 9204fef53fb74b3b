"""The command line: words become calls, errors become one line.

Knows: the commands and their exits. Does not know: how anything is done. Heavy libraries are imported inside the
commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import csv
import gc
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from layersearch import api
from layersearch.analyzing import analyzing
from layersearch.answering import PORT, say
from layersearch.counts import count
from layersearch.errors import EXIT_STOPPED, LayersearchError, StoppedError, WordsError
from layersearch.options import (
    PLAN_LINES,
    AsCsv,
    AsJson,
    Asked,
    Confirm,
    Data,
    Device,
    ExportForm,
    Label,
    MeasureOn,
    Metric,
    PlanLimit,
    Replicates,
    Revision,
    Storage,
    StudyName,
    Text,
    TextPair,
    Trials,
)
from layersearch.reading import reading
from layersearch.recipe_options import MaxLength, Seed
from layersearch.remaking import remaking
from layersearch.search.question import EXAMPLES, How, Part, What
from layersearch.spelled import refused, spelled_out
from layersearch.training.recipe import Recipe

ALLOCATIONS = 100_000  # between two collections of garbage; by Python's 700 they took an eighth of `plan`

app = typer.Typer(add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(reading)
app.add_typer(remaking)
app.add_typer(analyzing)


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
def run(*, what: Asked, trials: Trials = None, confirm: Confirm = None, replicates: Replicates = 0, how: How) -> None:
    """Search the front of score against parameters, confirm it, and say what to do next.

    The same command again continues the study.
    """
    from layersearch.report.console import print_front, print_next_commands
    from layersearch.search.record import read_study

    command = _without_passwords(shlex.join(["layersearch", *sys.argv[1:]]), how)
    try:
        record = api.searched(what, how, trials, confirm, replicates, command)
    except StoppedError:
        print_front(read_study(how.storage, how.name, say))
        raise
    print_front(record)
    print_next_commands(record, how.storage, How.storage)


@app.command()
@spelled_out
def plan(
    *,
    what: Asked,
    trials: Trials = None,
    confirm: Confirm = None,
    replicates: Replicates = 0,
    limit: PlanLimit = PLAN_LINES,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    how: How,
) -> None:
    """Train nothing: list the patterns, their parameters, how each could be exported, and what a run would cost.

    Takes every word of `run`; those of speed, place and order (--study to --start-from) change no pattern here.
    """
    from layersearch.report.planned import print_plan

    _check_form(as_json=as_json, as_csv=as_csv)
    found = api.planned(what, how, trials, confirm, replicates, limit)
    if as_json or as_csv:
        _print_records(found.records(), as_json=as_json)
        if len(found) < found.size:
            say(f"{len(found):,} of {count(found.size, 'pattern')} listed; --limit 0 lists all")
        return
    print_plan(found.question, found.lines, found.costs)


@app.command()
def patterns(
    model: Annotated[str, typer.Option(help="Base model, as in `run`.")],
    task: Annotated[str, typer.Option(help="Task, as in `run`: its head is counted, its data are measured on.")],
    data: Data = What.data,
    revision: Revision = What.revision,
    strategy: Annotated[list[str] | None, typer.Option(help="Name of a strategy; repeatable; default all.")] = None,
    k: Annotated[int | None, typer.Option(help="How many layers; default every number that there is.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Cosine or influence in place of k.")] = None,
    copies: Annotated[int, typer.Option(min=1, max=9, help="Copies of a duplicated layer.")] = 1,
    measure_on: MeasureOn = What.measured_on,
    split: Annotated[Part, typer.Option(help="Part of the data on which strategies are measured.")] = "train",
    examples: Annotated[int, typer.Option(min=1, help="Examples of it.")] = EXAMPLES,
    max_length: MaxLength = None,
    seed: Seed = Recipe.seed,
    device: Device = How.device,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    metric: Metric = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Train nothing: list what strategies spell, after measuring the model for those that need it."""
    from layersearch.report.patterns import print_patterns
    from layersearch.report.table import output

    _check_form(as_json=as_json, as_csv=as_csv)
    found = api.patterns(
        model,
        task,
        data=data,
        revision=revision,
        strategy=strategy,
        k=k,
        threshold=threshold,
        copies=copies,
        measure_on=measure_on,
        split=split,
        examples=examples,
        max_length=max_length,
        seed=seed,
        device=device,
        text=text,
        text_pair=text_pair,
        label=label,
        metric=metric,
    )
    if as_json or as_csv:
        _print_records(found.records(), as_json=as_json)
        return
    print_patterns(output(), found.found, found.measured, found.num_layers)


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

    _check_form(as_json=as_json, as_csv=as_csv)
    found = api.front(study, storage, png, everything)
    if png is not None:
        say(f"drawn: {png}")
    if as_json or as_csv:
        _print_records(found.records(), as_json=as_json)
        return
    print_front(found.record, everything=everything)


@app.command()
def export(
    trial: Annotated[int, typer.Option(help="Number of the trial, from the first column of `layersearch front`.")],
    to: Annotated[Path, typer.Option(help="Folder to make; must not hold anything.")],
    study: StudyName = None,
    storage: Storage = How.storage,
    form: Annotated[
        ExportForm | None, typer.Option(help="native, code or onnx; default native or code, by pattern.")
    ] = None,
    device: Device = How.device,
    push_to_hub: Annotated[str | None, typer.Option(metavar="REPO", help="Upload it, once it is proven.")] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push-to-hub: for all to see; else private.")] = False,
) -> None:
    """Write a trial as a Hugging Face folder that `from_pretrained` opens, proven in a fresh process.

    A pattern of whole layers needs nothing else; one with halves brings a page of code along. `--form onnx` writes any
    pattern as a graph for ONNX Runtime.
    """
    from layersearch.models.push import check_push, push

    check_push(push_to_hub, public=public)
    proof = api.exported(trial, to, study, storage, form, device)
    typer.echo(f"{to}: {proof}")
    or_with = f", or with layersearch.load({str(to)!r}), which runs no code from it" if proof.form != "onnx" else ""
    typer.echo(f"open it with {proof.call}{or_with}")
    if push_to_hub is not None:
        typer.echo(f"pushed: {push(to, push_to_hub, public=public)}")


@app.command()
def dashboard(
    storage: Storage = How.storage,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = PORT,
    writable: Annotated[bool, typer.Option(help="Allow changes and deletions; there is no password.")] = False,
) -> None:
    """Open the studies of a database in optuna-dashboard, read-only, for this machine only."""
    api.dashboard(storage, port, writable)


def main() -> None:
    """Run the command line. A LayersearchError becomes one line and exit 1, wrong words one and exit 2, a stop 130."""
    gc.set_threshold(ALLOCATIONS)
    try:
        code = app(prog_name="layersearch", standalone_mode=False)
        if code == EXIT_STOPPED:  # Typer's for a Ctrl-C that nobody waited for
            raise StoppedError("stopped")
        sys.exit(code)
    except typer.TyperException as error:
        say(f"error: {refused(error)}")
        sys.exit(error.exit_code)
    except StoppedError as stop:
        say(str(stop))
        sys.exit(EXIT_STOPPED)
    except LayersearchError as error:
        say(f"error: {error}")
        sys.exit(2 if isinstance(error, WordsError) else 1)
    finally:
        gc.freeze()  # else Python looks once more through all that torch has made: a sixth of the first `plan`


def _without_passwords(command: str, how: How) -> str:
    """The command as it may be written down: its storages without their passwords."""
    from layersearch.search.storage import parse_url, shown

    for storage in (how.storage, *(source.partition("@")[2] for source in how.start_from)):
        if "://" in storage:
            command = command.replace(storage, shown(parse_url(storage)))
    return command


def _check_form(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise WordsError("--json and --csv are two forms of one output; give one of them")


def _print_records(records: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(records, indent=1))
    elif records:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
