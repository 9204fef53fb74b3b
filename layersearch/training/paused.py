"""A candidate that waits at a rung, on disk: whole or not there.

Knows: one file of tensors and plain values. Does not know: what they mean, who waits, for how long.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save(values: Mapping[str, Any], file: Path) -> None:
    """Write `values` (tensors, numbers, text, and lists and dictionaries of them) so that a crash leaves a whole file.

    What stood there before stays until then. Raises OSError if the disk takes no more.
    """
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f"{file.name}.half")
    try:
        with half.open("wb") as stream:
            torch.save(dict(values), stream)
            stream.flush()
            os.fsync(stream.fileno())
        half.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except RuntimeError as error:  # torch's word for a write that failed
        raise OSError(str(error).splitlines()[0]) from error
    finally:
        half.unlink(missing_ok=True)


def load(file: Path) -> dict[str, Any] | None:
    """What `save` wrote, on the processor; None if there is no file, or a damaged one: the work is done again then."""
    import torch

    try:
        values: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return values
