"""Checkpoints of trained candidates, of any pattern, in a format that is either whole or not there.

Knows: the two files (`model.safetensors`, `manifest.json`), how they reach the disk, and how to tell damage. Does not
know: which checkpoints are worth keeping, the study, or the Hugging Face layout (that is `export`).
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from layersearch.durable import sha256_of
from layersearch.errors import LayersearchError, ModelError, PatternError
from layersearch.kinds import KindName
from layersearch.models.surgery import auto_class, drop_halves, layers_of, skeleton
from layersearch.models.tying import tie_copies
from layersearch.models.weights import set_weights, weights_of
from layersearch.pattern import Pattern

FORMAT = 1
WEIGHTS = "model.safetensors"
MANIFEST = "manifest.json"

_MARGIN = 8 << 20
"""Bytes that stay free beside the weights, for the manifest and whoever else writes."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says about itself.

    `config` is the candidate's own configuration (its depth is the number of blocks), `source_layers` the number of
    layers of the base model, `parameters` the candidate's, `sha256` and `size` (bytes) those of the weights file,
    `extras` whatever the caller gave, such as scores, and `kind` that of its head.
    """

    pattern: Pattern
    source_layers: int
    parameters: int
    sha256: str
    size: int
    config: Mapping[str, Any]
    extras: Mapping[str, Any]
    kind: KindName = "classification"


def save(
    model: PreTrainedModel,
    pattern: Pattern,
    folder: Path,
    *,
    source_layers: int,
    extras: Mapping[str, Any],
    kind: KindName = "classification",
) -> Manifest:
    """Write the candidate to `folder`, replacing what is there; a crash leaves a whole checkpoint or none.

    Tied weights are written once. `extras` holds JSON values. Raises LayersearchError if the disk has no room.
    """
    pattern.check(source_layers)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights_of(model).items()}
    with new_folder(folder, needed=sum(tensor.nbytes for tensor in tensors.values())) as part:
        save_file(tensors, part / WEIGHTS)
        manifest = Manifest(
            pattern=pattern,
            source_layers=source_layers,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            sha256=sha256_of(part / WEIGHTS),
            size=(part / WEIGHTS).stat().st_size,
            config=_plain(model.config),
            extras=extras,
            kind=kind,
        )
        values = asdict(manifest) | {"format": FORMAT, "pattern": str(pattern)}
        (part / MANIFEST).write_text(json.dumps(values, indent=1), encoding="utf-8")
    return manifest


def read(folder: Path) -> Manifest:
    """The manifest of a checkpoint, without looking into its weights. Raises ModelError if there is no whole one."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ModelError(f"the checkpoint {folder} has another format than {FORMAT}; use the version that wrote it")
        return Manifest(**values | {"pattern": Pattern.parse(values["pattern"])})
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is no whole checkpoint: it has no {MANIFEST}; train the pattern again") from error
    except (ValueError, KeyError, TypeError, AttributeError, PatternError) as error:
        raise ModelError(f"{folder / MANIFEST} is damaged ({error}); train the pattern again") from error


def load(folder: Path, model_class: Any = None) -> tuple[PreTrainedModel, Manifest]:
    """Rebuild the candidate from its configuration and pattern, without the base model; fp32, evaluation mode, CPU.

    Its class is that of its kind of head, or `model_class`, which has `from_config`. Raises ModelError that says what
    is wrong for a checkpoint that is damaged, half written, or of another head.
    """
    manifest = read(folder)
    weights = folder / WEIGHTS
    found = sha256_of(weights) if weights.is_file() else "no file"
    if found != manifest.sha256:
        raise ModelError(
            f"{weights} is damaged: its sha256 is {found[:12]}, the manifest says {manifest.sha256[:12]}; "
            "train the pattern again"
        )
    try:
        model = skeleton(model_class or auto_class(manifest.kind), AutoConfig.for_model(**manifest.config))
        drop_halves(model, manifest.pattern)
        tie_copies(layers_of(model), manifest.pattern)
        set_weights(model, load_file(weights))
    except (RuntimeError, ValueError, TypeError, SafetensorError, StrictDataclassError) as error:
        what = " ".join(str(error).split())
        raise ModelError(
            f"weights and manifest in {folder} do not belong together: {what.rstrip('.')}; train the pattern again"
        ) from error
    return model, manifest


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a checkpoint with both files at their full size; cheap, so no check of the sha256."""
    try:
        return (folder / WEIGHTS).stat().st_size == read(folder).size
    except (ModelError, FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def new_folder(target: Path, needed: int) -> Iterator[Path]:
    """Give a temporary folder beside `target` that becomes `target` when the body ends, and vanishes if it fails.

    What is written is on the disk before the name is, and as open to others as the umask lets it. `needed` is in bytes.
    Raises LayersearchError if the disk has no room for it, before or while writing; remains of an earlier attempt that
    was killed are removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for remains in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        shutil.rmtree(remains)
    _require_space(target, needed)
    part = target.parent / f".{target.name}.{os.getpid()}.part"
    try:
        part.mkdir()
        yield part
        _follow_umask(part)
        for path in (*part.rglob("*"), part):
            _sync(path)
        _put_in_place(part, target)
    except (OSError, SafetensorError) as error:
        if _is_disk_full(error):
            raise _no_space(target, needed) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _plain(config: PreTrainedConfig) -> dict[str, Any]:
    """The configuration as JSON values, without the folder that the base model was read from."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    values.pop("_name_or_path", None)
    return values


def _follow_umask(folder: Path) -> None:
    """Give the files what the umask gave `folder`: safetensors makes its own private, whatever the umask says."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(folder.stat().st_mode & 0o666)


def _put_in_place(part: Path, target: Path) -> None:
    if target.exists():
        old = part.with_suffix(".old.part")
        target.rename(old)
        part.rename(target)
        shutil.rmtree(old)
    else:
        part.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_space(target: Path, needed: int) -> None:
    if shutil.disk_usage(target.parent).free < needed + _MARGIN:
        raise _no_space(target, needed)


def _no_space(target: Path, needed: int) -> LayersearchError:
    free = shutil.disk_usage(target.parent).free
    return LayersearchError(
        f"no room on the disk for {target}: {(needed + _MARGIN) / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free; "
        "free some space or choose another folder"
    )


def _is_disk_full(error: OSError | SafetensorError) -> bool:
    """safetensors tells only by its text."""
    return getattr(error, "errno", None) == errno.ENOSPC or f"(os error {errno.ENOSPC})" in str(error)
