"""The calls that read studies or folders and train nothing: front, show, best, compare, report, verify and so on.

Knows: what each of these commands does, and the values that answer (`answers.py`). Does not know: how anything is found
or drawn, exits. Heavy libraries are imported inside the calls.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersearch.errors import WordsError
from layersearch.search.question import How
from layersearch.typed import checked

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from layersearch.analysis.importance import Importance
    from layersearch.answers import Best, Compared, Front, Trial
    from layersearch.models.opened import Verdict
    from layersearch.search.record import Record

PORT = 8080


@checked
def front(
    study: str | None = None,
    storage: str | Path = How.storage,
    png: str | Path | None = None,
    all: bool = False,  # noqa: A002  the word of the command line
) -> Front:
    """The front of a study, or all its complete trials; `png` draws it: `layersearch front`.

    >>> import layersearch
    >>> front = layersearch.front(png="front.png")
    >>> print(front)
    >>> front.to_pandas()[["trial", "pattern", "score"]]
    """
    from layersearch.answers import Front
    from layersearch.search.record import read_front

    record = read_front(str(storage), study, say)
    if png is not None:
        from layersearch.report.figures import draw_front

        draw_front(record, Path(png))
    return Front(record, everything=all)


@checked
def show(study: str | None = None, storage: str | Path = How.storage, *, trial: int) -> Trial:
    """Everything about one trial, whatever became of it: `layersearch show`.

    >>> import layersearch
    >>> layersearch.show(trial=0).row.pattern
    """
    from layersearch.answers import Trial
    from layersearch.report.commands import place_of
    from layersearch.search.record import read_study

    record = read_study(str(storage), study, say)
    record.row(trial)  # raises where there is none
    return Trial(record, trial, place_of(str(storage), How.storage))


@checked
def best(
    study: str | None = None,
    storage: str | Path = How.storage,
    max_params: str | None = None,
    max_drop: str | None = None,
    max_latency: str | None = None,
    knee: bool = False,
) -> Best:
    """Which candidate of the front fits, what comes next to it, or what comes nearest: `layersearch best`.

    >>> import layersearch
    >>> found = layersearch.best(max_params="95%")
    >>> print(found.trial, found.pick)
    """
    from layersearch.answers import Best
    from layersearch.report.commands import place_of
    from layersearch.search.objectives import DROP, parse_limit
    from layersearch.search.record import read_study
    from layersearch.search.wish import Wish
    from layersearch.search.wish import best as best_of

    given = {"parameters": max_params, DROP: max_drop, "latency": max_latency}
    size, drop, latency = (None if text is None else parse_limit(of, text) for of, text in given.items())
    wish = Wish(size, drop, latency, knee)
    if wish == Wish():
        raise WordsError("say what is wanted: --max-params, --max-drop, --max-latency, --knee, or several of them")
    record = read_study(str(storage), study, say)
    return Best(record, best_of(record, wish), place_of(str(storage), How.storage))


@checked
def compare(first: str, second: str, storage: str | Path = How.storage, png: str | Path | None = None) -> Compared:
    """Lay the fronts of two studies (STUDY or STUDY@STORAGE) over each other: `layersearch compare`.

    >>> import layersearch
    >>> name = layersearch.front().record.name
    >>> layersearch.compare(name, name).difference
    """
    from layersearch.answers import Compared
    from layersearch.search.compare import compare as compared
    from layersearch.search.record import read_study

    sources = [source.partition("@") for source in (first, second)]
    records = [read_study(place or str(storage), name or None, say) for name, _, place in sources]
    left, right = _told_apart(sources, records)
    names = (left, right)
    found = compared(records[0], records[1])
    if png is not None:
        from layersearch.report.figures import draw_both

        draw_both(list(zip(names, records, strict=True)), Path(png))
    return Compared(found, names)


@checked
def importance(
    names: Sequence[str] | None = None,
    storage: str | Path = How.storage,
    shared: bool = False,
    png: str | Path | None = None,
) -> list[tuple[str, Importance]]:
    """What dropping each layer and half costs, by study (STUDY or STUDY@STORAGE): `layersearch importance`.

    >>> import layersearch
    >>> for name, found in layersearch.importance():
    ...     print(name, found)
    """
    from layersearch.analysis.importance import importance_of
    from layersearch.search.record import read_study

    sources = [source.partition("@") for source in names or [""]]
    records = [read_study(place or str(storage), name or None, say) for name, _, place in sources]
    found = [importance_of(record, shared=shared) for record in records]
    named = list(zip(_told_apart(sources, records), found, strict=True))
    if png is not None:
        from layersearch.report.importance_map import draw_importance

        draw_importance(named, Path(png))
    return named


def _told_apart(sources: list[tuple[str, str, str]], records: list[Record]) -> list[str]:
    """The names of the studies; with the storages, passwords left out, where they are called alike."""
    from layersearch.search.storage import parse_url, shown

    names = [record.name for record in records]
    places = [f"@{shown(parse_url(place)) if '://' in place else place}" if place else "" for _, _, place in sources]
    return [name + place * (names.count(name) > 1) for name, place in zip(names, places, strict=True)]


@checked
def report(
    study: str | None = None,
    storage: str | Path = How.storage,
    to: str | Path | None = None,
    png: str | Path | None = None,
) -> list[Path]:
    """Write a study into one HTML file that opens offline, or its pictures into a folder: `layersearch report`.

    Both where both `to` and `png` are given. The files that were written, the HTML first.

    >>> import layersearch
    >>> layersearch.report(to="report.html", png="pictures")
    """
    from layersearch.report.commands import place_of
    from layersearch.report.html import write_report
    from layersearch.search.record import read_study

    record = read_study(str(storage), study, say)
    written = []
    if to is not None or png is None:
        written = [Path(to or f"{record.name}.html")]
        write_report(record, written[0], place_of(str(storage), How.storage))
    if png is not None:
        from layersearch.report.figures import draw_all

        written += draw_all(record, Path(png))
    return written


@checked
def verify(folder: str | Path) -> Verdict:
    """Whether an exported folder is as it was, file by file, and can be proven again: `layersearch verify`.

    >>> import layersearch
    >>> assert layersearch.verify("exported").proof is not None
    """
    from layersearch.models.folder import read_record

    read_record(Path(folder))  # one that is not there is said before the seconds that the libraries behind this take
    from layersearch.models.opened import verify as verified

    return verified(Path(folder))


@checked
def load(folder: str | Path) -> tuple[PreTrainedModel, Any]:
    """The model in a folder that layersearch exported, and its tokenizer (of images the image processor).

    Runs no code from the folder. Raises ExportError for a folder that is not such a one, or not as it was exported; see
    `layersearch.models.opened.load`.

    >>> import layersearch
    >>> model, tokenizer = layersearch.load("exported")
    """
    from layersearch.models.opened import load as opened

    return opened(folder)


@checked
def dashboard(storage: str | Path = How.storage, port: int = PORT, writable: bool = False) -> None:
    """Serve the studies of a database in optuna-dashboard until Ctrl-C: `layersearch dashboard`."""
    from layersearch.report.dashboard import serve

    serve(str(storage), port, writable=writable, say=say)


def say(line: str) -> None:
    """What a call or a command says beside its answer: a line on standard error."""
    print(line, file=sys.stderr)
