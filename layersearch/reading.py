"""Commands that answer from studies or folders and train nothing: show, best, compare, report, verify.

Knows: their words and exits. Does not know: how anything is found or drawn. Heavy libraries are imported inside the
commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layersearch.completion import studies
from layersearch.options import AsJson, Storage, StudyName, WordsError
from layersearch.search.question import How

if TYPE_CHECKING:
    from layersearch.search.record import Record

reading = typer.Typer(rich_markup_mode=None)


@reading.command()
def show(
    trial: Annotated[int, typer.Option(help="Number of the trial.")],
    study: StudyName = None,
    storage: Storage = How.storage,
    as_json: AsJson = False,
) -> None:
    """Say everything about one trial, whatever became of it."""
    from layersearch.report.commands import place_of
    from layersearch.report.console import output
    from layersearch.report.trial import as_plain, print_trial
    from layersearch.search.record import read_study

    record, place = read_study(storage, study, _say), place_of(storage, How.storage)
    if as_json:
        typer.echo(json.dumps(as_plain(record, trial, place), indent=1))
    else:
        print_trial(output(), record, trial, place)


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
    from layersearch.report.answer import as_plain, print_answer
    from layersearch.report.commands import place_of
    from layersearch.report.console import output
    from layersearch.search.objectives import DROP, parse_limit
    from layersearch.search.record import read_study
    from layersearch.search.wish import Wish
    from layersearch.search.wish import best as best_of

    given = {"parameters": max_params, DROP: max_drop, "latency": max_latency}
    size, drop, latency = (None if text is None else parse_limit(of, text) for of, text in given.items())
    wish = Wish(size, drop, latency, knee)
    if wish == Wish():
        raise WordsError("say what is wanted: --max-params, --max-drop, --max-latency, --knee, or several of them")
    record = read_study(storage, study, _say)
    answer, place = best_of(record, wish), place_of(storage, How.storage)
    if as_json:
        typer.echo(json.dumps(as_plain(record, answer, place), indent=1))
    else:
        print_answer(output(), record, answer, place)
    if answer.pick is None:
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
    from layersearch.report.both import as_plain, print_comparison
    from layersearch.report.console import output
    from layersearch.search.compare import compare as compared
    from layersearch.search.record import read_study

    sources = [source.partition("@") for source in (first, second)]
    records = [read_study(place or storage, name or None, _say) for name, _, place in sources]
    names = _told_apart(sources, records)
    found = compared(records[0], records[1])
    if png is not None:
        from layersearch.report.figures import draw_both

        draw_both(list(zip(names, records, strict=True)), png)
        _say(f"drawn: {png}")
    if as_json:
        typer.echo(json.dumps(as_plain(found, names), indent=1))
    else:
        print_comparison(output(), found, names)


@reading.command()
def report(
    study: StudyName = None,
    storage: Storage = How.storage,
    to: Annotated[Path | None, typer.Option(help="HTML file to write; default STUDY.html.")] = None,
    png: Annotated[Path | None, typer.Option(help="Folder for the same pictures as PNGs.")] = None,
) -> None:
    """Write the report of a study: one HTML file that opens offline."""
    from layersearch.report.commands import place_of
    from layersearch.report.html import write_report
    from layersearch.search.record import read_study

    record = read_study(storage, study, _say)
    file = to or Path(f"{record.name}.html")
    write_report(record, file, place_of(storage, How.storage))
    _say(f"written: {file}")
    if png is not None:
        from layersearch.report.figures import draw_all

        for drawn in draw_all(record, png):
            _say(f"drawn: {drawn}")


@reading.command()
def verify(folder: Annotated[Path, typer.Argument(help="Folder that `layersearch export` made.")]) -> None:
    """Say whether an exported folder is as it was, file by file, and prove it again (exit code 1 where not)."""
    from layersearch.models.opened import verify as verified

    verdict = verified(folder)
    for problem in verdict.problems:
        _say(f"error: {problem}")
    if verdict.proof is None:
        raise typer.Exit(1)
    typer.echo(f"{folder}: its {verdict.files} files are as they were exported; {verdict.proof}")


def _told_apart(sources: list[tuple[str, str, str]], records: list[Record]) -> tuple[str, str]:
    """The names of two studies; with the storages, passwords left out, where they are called alike."""
    from layersearch.search.storage import parse_url, shown

    first, second = (record.name for record in records)
    if first != second:
        return first, second
    places = [f"@{shown(parse_url(place)) if '://' in place else place}" if place else "" for _, _, place in sources]
    return first + places[0], second + places[1]


def _say(line: str) -> None:
    typer.echo(line, err=True)
