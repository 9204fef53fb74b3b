"""The commands that train or time what a study found again: confirm, reproduce, time.

Knows: their words and exits, how the progress of a folder shows. Does not know: how anything is trained or timed. Heavy
libraries are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layersearch import api
from layersearch.answering import say
from layersearch.errors import StoppedError
from layersearch.options import CONFIRM, AsJson, Device, RayAddress, StallSeconds, Storage, StudyName, Workers
from layersearch.search.question import How

if TYPE_CHECKING:
    from layersearch.search.reproduce import Reproduced

remaking = typer.Typer(rich_markup_mode=None)


@remaking.command()
def confirm(
    study: StudyName = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds that each shall have in all.")] = CONFIRM,
    trial: Annotated[list[int] | None, typer.Option(help="Only this trial, not the front; repeatable.")] = None,
    storage: Storage = How.storage,
    files: Annotated[Path | None, typer.Option(help="Folder for files; default the study's own.")] = None,
    workers: Workers = How.workers,
    device: Device = How.device,
    ray_address: RayAddress = How.ray_address,
    stall_seconds: StallSeconds = How.stall_seconds,
) -> None:
    """Train the front and the unchanged model again with fresh seeds, and score them on the validation set.

    By the study's own method. The same command again goes on; more --seeds only add the missing ones.
    """
    from layersearch.report.confirmation import print_confirmation
    from layersearch.report.table import output
    from layersearch.search.record import read_study

    try:
        record = api.confirm(study, seeds, trial, storage, files, workers, device, ray_address, stall_seconds).record
    except StoppedError:
        print_confirmation(output(), read_study(storage, study, say))
        raise
    print_confirmation(output(), record)


@remaking.command("time")
def time_the_front(
    study: StudyName = None,
    storage: Storage = How.storage,
    device: Device = How.device,
) -> None:
    """Time the front and the unchanged model, batch sizes 1 and 32, on PyTorch and ONNX Runtime; nothing is trained.

    Nothing else should run on the machine meanwhile.
    """
    from layersearch.report.console import print_front

    print_front(api.time(study, storage, device).record)


@remaking.command()
def reproduce(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `layersearch export` wrote.")],
    model: Annotated[str | None, typer.Option(help="Where the base model lies now; it has to be the same.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the data lie now; they have to be the same.")] = None,
    device: Device = How.device,
    as_json: AsJson = False,
) -> None:
    """Train an exported folder's recipe again, and say whether its score comes back (exit code 1 where not)."""
    with _bar() as heartbeat:
        found = api.reproduced(folder, model, data, device, heartbeat)
    from layersearch.search.reproduce import as_plain

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
