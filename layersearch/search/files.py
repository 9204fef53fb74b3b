"""The files of a study's trials: checkpoints of the front, states of paused candidates, traces of bugs.

Knows: their places in the study's folder, and which of them somebody may still ask for. Does not know: what is in them.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path


def checkpoint_of(folder: Path, number: int) -> Path:
    """Where the weights of trial `number` lie."""
    return folder / "checkpoints" / f"trial-{number:05d}"


def state_of(folder: Path, number: int) -> Path:
    """Where the state of trial `number` lies while it is between two rungs."""
    return folder / "paused" / f"trial-{number:05d}"


def write_trace(folder: Path, number: int, trace: str) -> None:
    """Keep the trace of what trial `number` failed with."""
    file = folder / "traces" / f"trial-{number:05d}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(trace)


def drop_checkpoints(folder: Path, kept: Collection[int]) -> None:
    """Remove the checkpoints of all trials but the `kept` ones."""
    for number, checkpoint in _by_trial(folder / "checkpoints"):
        if number not in kept:
            shutil.rmtree(checkpoint, ignore_errors=True)


def drop_states(folder: Path, running: Collection[int]) -> None:
    """Remove the states of all candidates but the `running` ones: nobody will ask them to go on."""
    for number, state in _by_trial(folder / "paused"):
        if number not in running:
            state.unlink(missing_ok=True)


def _by_trial(folder: Path) -> Iterator[tuple[int, Path]]:
    """What is called after a trial in `folder`, such as `trial-00012`, and that trial's number."""
    for path in folder.glob("trial-*"):
        number = path.name.removeprefix("trial-").split(".")[0]
        if number.isdigit():
            yield int(number), path
