"""The command that makes an exported folder's score again: reproduce.

Knows: its words, its exit, how its progress shows. Does not know: how anything is trained. Heavy libraries are imported
inside the command, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layersearch.options import AsJson, Device
from layersearch.search.question import How

if TYPE_CHECKING:
    from layersearch.search.reproduce import Reproduced

remaking = typer.Typer(rich_markup_mode=None)


@remaking.command()
def reproduce(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `layersearch export` wrote.")],
    model: Annotated[str | None, typer.Option(help="Where the base model lies now; it has to be the same.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the data lie now; they have to be the same.")] = None,
    device: Device = How.device,
    as_json: AsJson = False,
) -> None:
    """Train an exported folder's recipe again, and say whether its score comes back (exit code 1 where not)."""
    from layersearch.search.reproduce import as_plain
    from layersearch.search.reproduce import reproduce as trained_again

    how = How(name="reproduce", workers=0, device=device)
    with _bar() as heartbeat:
        found = trained_again(folder, how, _say, model=model, data=data, heartbeat=heartbeat)
    if as_json:
        typer.echo(json.dumps(as_plain(found), indent=1))
    else:
        for line in in_words(found):
            typer.echo(line)
    if not found.inside:
        raise typer.Exit(1)


def in_words(found: Reproduced) -> list[str]:
    """What came of it, the verdict first."""
    within = "" if found.interval is None else f", 95 % interval {found.interval[0]:.4f} to {found.interval[1]:.4f}"
    scores = f"{found.metric} {found.now:.4f} now, {found.then:.4f} then{within}"
    if found.same:
        verdict = "reproduced, the same to the last digit"
    elif found.inside:
        verdict = "reproduced, inside the interval and not the same to the last digit"
    else:
        verdict = "not reproduced, outside the interval" if found.interval else "not reproduced"
    return [f"{verdict}: {scores}", *found.differences]


@contextmanager
def _bar() -> Iterator[Callable[[float], None]]:
    """A heartbeat that moves a bar on a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        training = progress.add_task("training", total=1.0)
        yield lambda share: progress.update(training, completed=share)


def _say(line: str) -> None:
    typer.echo(line, err=True)
