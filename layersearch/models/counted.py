"""What a model's parts count, kept on the disk: the next question about the same model needs neither torch nor its
configuration's library.

Knows: what the numbers depend on, and where they are kept. Does not know: how anything is counted. What is kept may be
deleted at any time; a broken file is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from layersearch.durable import whole_file
from layersearch.errors import ModelError
from layersearch.kinds import KindName
from layersearch.mixing import USUAL, Mixing
from layersearch.pattern import PartCounts

CACHE = "LAYERSEARCH_CACHE"
"""The environment variable that names another folder for what is kept; empty, nothing is kept."""

LIBRARIES = ("torch", "transformers")


@dataclass(frozen=True)
class Counted:
    """What a configuration tells of the model that it describes.

    `positions` are the most tokens an example may have, 0 where there is no limit; `parts` are the costs that are
    counted, by the names of `search/objectives.py`, and `matrices` the weights of which some may become zero;
    `unmixable` says why its layers cannot be mixed, `skips` which setting lets training skip some of them, each None
    where nothing does.
    """

    model_type: str
    positions: int
    parts: Mapping[str, PartCounts]
    matrices: PartCounts
    unmixable: str | None = None
    skips: str | None = None


def counted(
    folder: Path, num_labels: int, kind: KindName, length: int, mixing: Mixing = USUAL, *, mixes: bool = False
) -> Counted:
    """The model in `folder` with the head of `kind` (`num_labels` outputs), its MACs for `length` tokens.

    A mix of its layers has the parameters that `mixing` says. Taken from the disk if it was counted before. Raises
    ModelError like `load_config` and `count_all`, and with `mixes` for a model that can have no such mix.
    """
    file = _file(folder, num_labels, kind, length, mixing)
    found = None if file is None else _read(file)
    if found is None:
        found = _count(folder, num_labels, kind, length, mixing)
        if file is not None:
            with suppress(OSError):  # a full disk or a folder that is not ours costs the next question some seconds
                _write(file, found)
    if mixes and found.unmixable:
        raise ModelError(found.unmixable)
    return found


def _count(folder: Path, num_labels: int, kind: KindName, length: int, mixing: Mixing) -> Counted:
    from layersearch.models.base import load_config
    from layersearch.models.costs import count_all
    from layersearch.models.families import positions_of, skipped_layers
    from layersearch.models.matrices import count_weights
    from layersearch.models.readout import require_mixable
    from layersearch.models.surgery import auto_class, rows_of, skeleton

    config = load_config(folder, num_labels=num_labels, kind=kind)
    model = skeleton(auto_class(kind), config)
    matrices, parts, unmixable = count_weights(model), count_all(model, length, kind, mixing), None
    try:
        require_mixable(model, rows_of(model)[-1], mixing)
    except ModelError as error:
        unmixable = str(error)
    return Counted(config.model_type, positions_of(config), parts, matrices, unmixable, skipped_layers(config))


def _file(folder: Path, *question: object) -> Path | None:
    """Where the answer to this very question is kept, by all that it depends on; None where nothing is."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "layersearch"
    place = os.environ.get(CACHE, str(usual))
    try:
        config = (folder / "config.json").read_bytes()
        home = Path(place).expanduser()
    except (OSError, RuntimeError):  # no configuration, which whoever opens it says better; no home
        return None
    about = (*map(str, question), *map(version, LIBRARIES), _sources())
    return home / f"{hashlib.sha256(repr(about).encode() + config).hexdigest()}.json" if place else None


def _sources() -> str:
    """A hash of the code that counts: of all that knows models."""
    files = (
        *sorted(Path(__file__).parent.glob("*.py")),
        *(Path(__file__).parents[1] / n for n in ("kinds.py", "mixing.py", "pattern.py")),
    )
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _read(file: Path) -> Counted | None:
    """What a file holds, None where it is absent or not as it was written."""
    try:
        digest, text = file.read_text(encoding="utf-8").split("\n", 1)
    except (OSError, ValueError):
        return None
    if digest != hashlib.sha256(text.encode()).hexdigest():
        return None
    found: dict[str, Any] = json.loads(text)
    parts = {name: _parts(of) for name, of in found["parts"].items()}
    return Counted(**{**found, "parts": parts, "matrices": _parts(found["matrices"])})


def _parts(values: Mapping[str, Any]) -> PartCounts:
    return PartCounts(**{key: _frozen(value) for key, value in values.items()})


def _write(file: Path, found: Counted) -> None:
    text = json.dumps(asdict(found))
    with whole_file(file) as stream:
        stream.write(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}".encode())


def _frozen(value: Any) -> Any:
    """JSON knows lists only."""
    return tuple(value) if isinstance(value, list) else value
