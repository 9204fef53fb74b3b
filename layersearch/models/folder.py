"""layersearch.json: what an exported folder says about itself, by which damage to any of its files is found.

Knows: the files of a folder and their hashes. Does not know: models, what the facts in the record mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layersearch.durable import sha256_of
from layersearch.errors import ExportError

RECORD = "layersearch.json"
FORMAT = 1

AGAIN = "get the folder again, or export the trial again"


def write_record(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write layersearch.json, the last file of an export: `facts`, and the hashes of all other files and of itself."""
    files = {name: {"sha256": sha256_of(folder / name), "size": (folder / name).stat().st_size} for name in _in(folder)}
    record = json.loads(json.dumps({"format": FORMAT, **facts, "files": files}))
    (folder / RECORD).write_text(json.dumps(record | {"sha256": _hash_of(record)}, indent=1), encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any]:
    """What layersearch.json says. Raises ExportError where there is none, or it is not as it was written."""
    file = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        own = record["sha256"] == _hash_of(record)
        if "format" in record and record["format"] != FORMAT:
            raise ExportError(f"{file} has another format than {FORMAT}; use the version that wrote it")
    except (FileNotFoundError, NotADirectoryError) as error:
        why = f"{folder} is no folder that layersearch exported: it has no {RECORD}"
        why = why if folder.is_dir() else f"no such folder: {folder}"
        raise ExportError(f"{why}; give one that `layersearch export` made") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{file} is damaged or of an older version of layersearch; {AGAIN}") from error
    if not own:
        raise ExportError(f"{file} was changed after the export: it does not have the hash that it names; {AGAIN}")
    return record


def damage_in(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the files of a folder, a sentence each by the file's name; empty if all is as it was.

    A file that is too many counts where it could be opened in place of one that belongs there; others are let be.
    """
    found = {name: _wrong_with(folder / name, there) for name, there in record["files"].items()}
    for name in _in(folder):
        if name not in found and Path(name).suffix in (".safetensors", ".bin", ".json", ".py"):
            found[name] = f"{name} is not of the export: it was added later"
    return {name: sentence for name, sentence in found.items() if sentence}


def _wrong_with(file: Path, there: Mapping[str, Any]) -> str:
    if not file.is_file():
        return f"{file.name} is missing"
    size = file.stat().st_size
    if size != there["size"]:
        return f"{file.name} has {size:,} bytes where the export had {there['size']:,}"
    found = sha256_of(file)
    return "" if found == there["sha256"] else f"{file.name} was changed: another content of the same size"


def _in(folder: Path) -> list[str]:
    """The files of a folder but the record, and those of git and the hub, whose names begin with a point."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(n.as_posix() for n in names if n.name != RECORD and not any(p.startswith(".") for p in n.parts))


def _hash_of(record: Mapping[str, Any]) -> str:
    """The sha256 of a record, without the hash that it holds of itself."""
    values = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
