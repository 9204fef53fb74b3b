"""The command that puts a front on the clock: time.

Knows: its words. Does not know: how anything is measured. Heavy libraries are imported inside the command, so that
`--help` answers at once.
"""

from __future__ import annotations

import typer

from layersearch.options import Device, Storage, StudyName
from layersearch.search.question import How

timing = typer.Typer(rich_markup_mode=None)


@timing.command("time")
def time_the_front(
    study: StudyName = None,
    storage: Storage = How.storage,
    device: Device = How.device,
) -> None:
    """Time the front and the unchanged model, batch sizes 1 and 32, on PyTorch and ONNX Runtime; nothing is trained.

    Nothing else should run on the machine meanwhile.
    """
    from layersearch import api
    from layersearch.report.console import print_front

    print_front(api.time(study, storage, device).record)
