"""Commands that answer from studies and train nothing: show, best, compare, importance, report.

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
    first, second = _told_apart(sources, records)
    names = (first, second)
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
    from layersearch.analysis.importance import importance_of
    from layersearch.report.console import output
    from layersearch.report.importance import as_plain, print_importance
    from layersearch.search.record import read_study

    sources = [source.partition("@") for source in names or [""]]
    records = [read_study(place or storage, name or None, _say) for name, _, place in sources]
    of_each = [importance_of(record, shared=shared) for record in records]
    found = list(zip(_told_apart(sources, records), of_each, strict=True))
    if png is not None:
        from layersearch.report.importance_map import draw_importance

        draw_importance(found, png)
        _say(f"drawn: {png}")
    if as_json:
        typer.echo(json.dumps([{**as_plain(one), "study": name} for name, one in found], indent=1))
    else:
        print_importance(output(), found)


def _told_apart(sources: list[tuple[str, str, str]], records: list[Record]) -> list[str]:
    """The names of the studies; with the storages, passwords left out, where they are called alike."""
    from layersearch.search.storage import parse_url, shown

    names = [record.name for record in records]
    places = [f"@{shown(parse_url(place)) if '://' in place else place}" if place else "" for _, _, place in sources]
    return [name + place * (names.count(name) > 1) for name, place in zip(names, places, strict=True)]


def _say(line: str) -> None:
    typer.echo(line, err=True)
