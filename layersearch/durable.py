"""Files that are whole or absent: what a crash or a full disk leaves never stands under the file's name; their hashes.

Knows: one file and its folder, and whether that can be written. Does not know: what is written.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(target: Path) -> Iterator[IO[bytes]]:
    """Give a stream whose content is `target` once the body ends, on the disk by then; nothing of it if that raises.

    Several processes may write the same target at once: the last one's stays. Makes the folder if need be. Raises
    OSError if the disk takes no more.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f"{target.name}.", suffix=".part", delete=False) as part:
        try:
            yield part
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def unwritable(folder: Path) -> str | None:
    """Why no folder can be made in `folder`, which need not be there yet; None where one can, which is tried."""
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryDirectory(prefix=".layersearch-", dir=there):
            return None
    except OSError as error:
        return error.strerror or str(error)


def sha256_of(file: Path) -> str:
    """The sha256 of a file's content, as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
