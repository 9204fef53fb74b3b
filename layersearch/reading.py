"""Commands that answer from studies or folders and train nothing: show, best, compare, importance, report, verify.

Knows: their words and exits. Does not know: how anything is found or drawn. Heavy libraries are imported inside the
commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from layersearch import answering
from layersearch.answering import say
from layersearch.completion import studies
from layersearch.counts import count
from layersearch.options import AsJson, Storage, StudyName
from layersearch.search.question import How

reading = typer.Typer(rich_markup_mode=None)


@reading.command()
def show(
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    study: StudyName = None,
    storage: Storage = How.storage,
    as_json: AsJson = False,
) -> None:
    """Say everything about one trial, whatever became of it."""
    from layersearch.report.table import output
    from layersearch.report.trial import print_trial

    found = answering.show(study, storage, trial=trial)
    if as_json:
        typer.echo(json.dumps(found.facts(), indent=1))
    else:
        print_trial(output(), found.record, trial, found.place)


@reading.command()
def best(
    study: StudyName = None,
    storage: Storage = How.storage,
    max_params: Annotated[str | None, typer.Option(help="At most so many: 60% of the unchanged model's, 66M.")] = None,
    max_drop: Annotated[str | None, typer.Option(help="Score to lose at most: 1pt (0.01), 0.005, 2%.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="At most so slow, a batch of one: 8ms, 60%.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="Of what fits, where the front bends most.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which candidate of the front fits, what comes next to it, or what comes nearest (exit code 1).

    Nothing is trained: the study answers.
    """
    from layersearch.report.answer import print_answer
    from layersearch.report.table import output

    found = answering.best(study, storage, max_params, max_drop, max_latency, knee)
    if as_json:
        typer.echo(json.dumps(found.facts(), indent=1))
    else:
        print_answer(output(), found.record, found.answer, found.place)
    if found.pick is None:
        raise typer.Exit(1)


@reading.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="STUDY[@STORAGE]", help="One study.", autocompletion=studies)],
    second: Annotated[str, typer.Argument(metavar="STUDY[@STORAGE]", help="The other.", autocompletion=studies)],
    storage: Storage = How.storage,
    png: Annotated[Path | None, typer.Option(help="Draw both fronts into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lay the fronts of two studies over each other: difference in hypervolume, what both found."""
    from layersearch.report.both import print_comparison
    from layersearch.report.table import output

    found = answering.compare(first, second, storage, png)
    if png is not None:
        say(f"drawn: {png}")
    if as_json:
        typer.echo(json.dumps(found.facts(), indent=1))
    else:
        print_comparison(output(), found.comparison, found.names)


@reading.command()
def report(
    study: StudyName = None,
    storage: Storage = How.storage,
    to: Annotated[Path | None, typer.Option(help="HTML file to write; default STUDY.html, none with --png.")] = None,
    png: Annotated[Path | None, typer.Option(help="Folder for its pictures as PNGs.")] = None,
) -> None:
    """Write the report of a study: one HTML file that opens offline, or its pictures."""
    for file in answering.report(study, storage, to, png):
        say(f"{'drawn' if file.suffix == '.png' else 'written'}: {file}")


@reading.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that `layersearch export` made.")],
    as_json: AsJson = False,
) -> None:
    """Say whether an exported folder is as it was, file by file, and prove it again (exit code 1 where not)."""
    verdict = answering.verify(folder)
    for problem in verdict.problems:
        say(f"error: {problem}")
    if as_json:
        typer.echo(json.dumps(verdict.facts(), indent=1))
    if verdict.proof is None:
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"{folder}: its {count(verdict.files, 'file')} are as they were exported; {verdict.proof}")


@reading.command()
def importance(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STUDY[@STORAGE]]...", help="Studies; several make a map.", autocompletion=studies),
    ] = None,
    storage: Storage = How.storage,
    shared: Annotated[bool, typer.Option("--shared", help="Fit the scores over the super-network.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the costs into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what dropping each layer and half costs, told from the scores of a study, or map it over several."""
    from layersearch.report.importance import as_plain, print_importance
    from layersearch.report.table import output

    found = answering.importance(names, storage, shared, png)
    if png is not None:
        say(f"drawn: {png}")
    if as_json:
        typer.echo(json.dumps([{**as_plain(one), "study": name} for name, one in found], indent=1))
    else:
        print_importance(output(), found)
