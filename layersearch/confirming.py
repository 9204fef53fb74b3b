"""The command that trains what a study found again, to see what it is worth.

Knows: its words and exits. Does not know: how anything is trained or shown. Heavy libraries are imported inside the
command, so that `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layersearch.errors import StoppedError
from layersearch.options import CONFIRM, Device, RayAddress, StallSeconds, Storage, StudyName, Workers
from layersearch.search.question import How

confirming = typer.Typer(rich_markup_mode=None)


@confirming.command()
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
    from layersearch import api
    from layersearch.report.confirmation import print_confirmation
    from layersearch.report.console import output
    from layersearch.search.record import read_study

    try:
        record = api.confirm(study, seeds, trial, storage, files, workers, device, ray_address, stall_seconds).record
    except StoppedError:
        print_confirmation(output(), read_study(storage, study, _say))
        raise
    print_confirmation(output(), record)


def _say(line: str) -> None:
    typer.echo(line, err=True)
