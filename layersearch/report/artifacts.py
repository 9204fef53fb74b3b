"""Files of a study, as a browser gets them: a checkpoint as one tar, pictures and the report made when asked for.

Knows: the two files of a checkpoint, the tar format, what draws the pictures. Does not know: HTTP, optuna-dashboard,
what is in a checkpoint. Nothing is copied on the disk: a tar is its headers and the files between them, as they lie.
"""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from layersearch.names import file_name_of
from layersearch.report.figures import pictures_of
from layersearch.report.html import report_of
from layersearch.search.record import Record

REPORT = "report.html"
CHECKPOINT = "checkpoint.tar"
_OF_A_CHECKPOINT = ("manifest.json", "model.safetensors")  # and nothing else, whatever lies in the folder
_PIECE = 1 << 20
_DRAWING = threading.Lock()  # matplotlib is for one thread at a time


@dataclass(frozen=True)
class Artifact:
    """A file on its way: its media type, its length in bytes, and its content piece by piece."""

    mimetype: str
    length: int
    pieces: Iterator[bytes]


def names_of_artifacts(record: Record) -> dict[str, str]:
    """The names of a study's own files with their media types: the pictures that have something to show, the report."""
    if not any(row.done for row in record.rows):
        return {}
    return {**{f"{name}.png": "image/png" for name in pictures_of(record)}, REPORT: "text/html"}


def artifact_of(record: Record, name: str, place: str) -> Artifact | None:
    """A study's own file; None for a name that is none. `place` is what `place_of` says."""
    known = names_of_artifacts(record)
    if name not in known:
        return None
    content = report_of(record, place).encode() if name == REPORT else _drawn(record, name.removesuffix(".png"))
    return Artifact(known[name], len(content), iter((content,)))


def _drawn(record: Record, name: str) -> bytes:
    with _DRAWING, TemporaryDirectory(prefix="layersearch-") as folder:
        file = Path(folder) / f"{name}.png"
        pictures_of(record)[name](record, file)
        return file.read_bytes()


def checkpoint_of_trial(record: Record, number: int) -> Artifact | None:
    """The checkpoint of a trial as a tar of a folder `STUDY-NUMBER`; None where its weights are not kept.

    The files are open from here on: a driver that drops the checkpoint meanwhile cuts nothing off.
    """
    row = next((row for row in record.rows if row.number == number), None)
    if row is None or row.checkpoint is None:
        return None
    name = f"{file_name_of(record.name)}-{number}"
    with ExitStack() as opened:
        try:
            files = [opened.enter_context((Path(row.checkpoint) / part).open("rb")) for part in _OF_A_CHECKPOINT]
        except OSError:
            return None
        parts = [part for file in files for part in _entry(file, f"{name}/{Path(file.name).name}")]
        parts.append((BytesIO(bytes(2 * tarfile.BLOCKSIZE)), 2 * tarfile.BLOCKSIZE))
        return Artifact("application/x-tar", sum(size for _, size in parts), _read(parts, opened.pop_all()))


def _entry(file: BinaryIO, name: str) -> list[tuple[BinaryIO, int]]:
    """One file of a tar: its header, itself, and zeros to the next block; each with its length."""
    info = tarfile.TarInfo(name)
    info.size = os.fstat(file.fileno()).st_size
    header = info.tobuf(tarfile.GNU_FORMAT)
    rest = -info.size % tarfile.BLOCKSIZE
    return [(BytesIO(header), len(header)), (file, info.size), (BytesIO(bytes(rest)), rest)]


def _read(parts: list[tuple[BinaryIO, int]], opened: ExitStack) -> Iterator[bytes]:
    with opened:
        for file, left in parts:
            while left and (piece := file.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
