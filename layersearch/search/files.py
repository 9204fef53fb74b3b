"""The files of a study's trials: checkpoints of the front, states of paused candidates, traces of bugs.

Knows: their places in the study's folder, their sizes, how they go so that a kill leaves none of them by half. Does not
know: what is in them, who may still ask for them.
"""

from __future__ import annotations

import json
import math
import os
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


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """The folders of weights in a study's folder, by trial."""
    return dict(sorted(_by_trial(folder / "checkpoints")))


def is_whole(checkpoint: Path) -> bool:
    """Whether a folder holds a manifest and as many bytes of weights as that says, told without a model library."""
    try:
        size = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))["size"]
        return bool((checkpoint / "model.safetensors").stat().st_size == size)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def drop(checkpoint: Path) -> None:
    """Remove a folder of weights; it loses its name first, so that a kill on the way leaves no half of it."""
    remains = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.old.part")
    shutil.rmtree(remains, ignore_errors=True)
    try:
        checkpoint.rename(remains)
    except OSError:
        return  # another driver was faster; or the disk refuses, and it is tried again after the next trial
    shutil.rmtree(remains, ignore_errors=True)


def drop_remains(folder: Path, running: Collection[int]) -> None:
    """Remove what was half written, or half removed, when a process was killed; not of the `running` trials."""
    for path in (*folder.glob("checkpoints/.*.part"), *folder.glob("networks-*/*.part"), *folder.glob("paused/*.part")):
        number = path.name.strip(".").removeprefix("trial-").split(".")[0]
        if path.is_dir() and not (number.isdigit() and int(number) in running):
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file():
            path.unlink(missing_ok=True)


def bytes_in(folder: Path) -> int:
    """What all files under `folder` take; those that vanish meanwhile take nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def drop_states(folder: Path, running: Collection[int]) -> None:
    """Remove the states of all candidates but the `running` ones: nobody will ask them to go on."""
    for number, state in _by_trial(folder / "paused"):
        if number not in running:
            state.unlink(missing_ok=True)


def shown(size: int, *, up: bool = False) -> str:
    """Bytes as `--disk` takes them, three digits; rounded `up` where no less will do."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if size >= unit), (1e3, "kB"))
    digits = max(0, 2 - math.floor(math.log10(max(size / unit, 1))))
    number = (math.ceil if up else round)(size / unit * 10**digits) / 10**digits
    return f"{number:g}{name}"


def _by_trial(folder: Path) -> Iterator[tuple[int, Path]]:
    """What is called after a trial in `folder`, such as `trial-00012`, and that trial's number."""
    for path in folder.glob("trial-*"):
        number = path.name.removeprefix("trial-").split(".")[0]
        if number.isdigit():
            yield int(number), path
