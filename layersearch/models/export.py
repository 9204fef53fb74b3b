"""Export: a checkpoint becomes a Hugging Face folder that is proven to open, or nothing.

Knows: which patterns plain transformers can open, what belongs into such a folder, and how to have it examined by a
fresh process before it gets its name. Does not know: the study, training, or where the card's facts come from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from layersearch.errors import ExportError
from layersearch.kinds import KINDS, KindName
from layersearch.models import checkpoint
from layersearch.models.base import load_reader, quiet
from layersearch.models.card import ModelCard, write_card
from layersearch.models.checkpoint import Manifest
from layersearch.models.families import is_plain
from layersearch.models.proof import answers, encode, ids_of
from layersearch.models.surgery import family_in, layers_of
from layersearch.models.tying import untie
from layersearch.pattern import Pattern

TOLERANCE = 1e-5
"""Largest absolute difference of a fp32 logit, in units of the largest logit where that is above 1."""

_PATIENCE = 600.0
"""Seconds after which a fresh process that does not answer is given up."""


@dataclass(frozen=True)
class Case:
    """What the exported folder has to reproduce: see `layersearch.models.proof`."""

    texts: tuple[tuple[str, ...], ...]
    max_length: int
    input_ids: list[list[int]]
    logits: list[Any]
    parameters: int
    tolerance: float
    head: str
    reader: str


@dataclass(frozen=True)
class Proof:
    """That a fresh process opened `folder` and found no missing, unexpected or mismatched key, and equal numbers.

    `inputs` examples were run; their logits differ by `max_difference` at most, where `tolerance` is allowed. `seconds`
    is how long the process took, `head` the class of transformers that opened the folder.
    """

    folder: Path
    head: str
    inputs: int
    parameters: int
    max_difference: float
    tolerance: float
    seconds: float


def check_exportable(pattern: Pattern, model_type: str) -> None:
    """Raise ExportError for a pattern whose candidate plain transformers code cannot open."""
    if not pattern.is_whole:
        raise ExportError(
            f"the pattern `{pattern}` has halved layers, and a folder for those is not available yet: plain "
            "transformers code has no such layer; choose a trial whose pattern has whole layers only, or search the "
            "space `layers`, which has no others"
        )
    if not is_plain(pattern, model_type):
        raise ExportError(
            f"the pattern `{pattern}` does not begin with layer 0, or has it again, and plain transformers code builds "
            f"the first layer of a {model_type} model, and no other, without a norm before its attention; choose a "
            "trial whose pattern has layer 0 once and first"
        )


def export(
    source: Path,
    to: Path,
    tokenizer_folder: Path,
    texts: Sequence[tuple[str, ...]],
    card: ModelCard,
    max_length: int = 128,
) -> Proof:
    """Write the checkpoint in the folder `source` as a Hugging Face folder `to`, proven in a fresh process.

    `texts` are at least one real example, each of one text or a pair; a few dozen are plenty. The tokenizer is the base
    model's. Tied copies leave as layers of their own with equal values, so the folder has more parameters than the
    candidate. `to` gets its name only after the proof; on any error nothing is left behind. Raises ExportError (halves,
    a folder that is not empty, a failed check with its numbers), ModelError (a damaged checkpoint), LayersearchError
    (no room on the disk).
    """
    found = checkpoint.read(source)
    check_exportable(found.pattern, found.config["model_type"])
    require_free(to)
    model, manifest = checkpoint.load(source)
    untie(layers_of(model), manifest.pattern)  # plain transformers code ties no layers
    name_labels(model, card.labels)
    tokenizer = reader_of(tokenizer_folder, model, manifest.kind)
    try:
        with checkpoint.new_folder(to, needed=_bytes_of(model)) as part:
            case = write_folder(model, tokenizer, part, texts, max_length, manifest.kind)
            proof = replace(prove(part, case), folder=to)
            (part / "README.md").write_text(write_card(card, manifest), encoding="utf-8")
            _write_record(part, proof, manifest, card)
    except OSError as error:
        raise ExportError(f"cannot write {to}: {error.strerror or error}; choose another folder") from error
    return proof


def name_labels(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """Let the configuration call the classes by `labels`, in the order of the outputs; none leaves it as it is."""
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: number for number, label in enumerate(labels)}


def write_folder(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    kind: KindName = "classification",
) -> Case:
    """Write weights, configuration and tokenizer to `folder`, and tell what somebody who opens it has to find.

    `model` is in evaluation mode, on the CPU.
    """
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    batch = encode(tokenizer, [list(text) for text in texts], max_length)
    logits = answers(model, batch)
    return Case(
        texts=tuple(texts),
        max_length=max_length,
        input_ids=ids_of(batch),
        logits=logits.tolist(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tolerance=TOLERANCE * max(1.0, logits.abs().max().item()),
        head=KINDS[kind].head,
        reader=KINDS[kind].reader,
    )


def prove(folder: Path, case: Case) -> Proof:
    """Have a fresh, offline process open `folder` with plain transformers and compare. Raises ExportError."""
    started = time.perf_counter()
    answer = _examine(folder, case)
    require_passed(answer)
    return Proof(
        folder=folder,
        head=case.head,
        inputs=len(case.texts),
        parameters=case.parameters,
        max_difference=answer["max_difference"],
        tolerance=case.tolerance,
        seconds=time.perf_counter() - started,
    )


def require_passed(answer: Mapping[str, Any]) -> None:
    """Raise ExportError with what a proof found wrong."""
    if answer["failed"]:
        raise ExportError(
            f"the exported folder did not pass its proof, so it is not kept: {'; '.join(answer['failed'])}"
        )


def _examine(folder: Path, case: Case) -> dict[str, Any]:
    return run_proof("layersearch.models.proof", folder, asdict(case))


def run_proof(module: str, folder: Path, case: Mapping[str, Any], *more: Path) -> dict[str, Any]:
    """What a fresh, offline process answers that runs `module` on `folder`, a file with `case`, and `more` files.

    Raises ExportError where it does not answer.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "case.json"
        file.write_text(json.dumps(case), encoding="utf-8")
        command = [sys.executable, "-m", module, str(folder.absolute()), str(file), *map(str, more)]
        try:
            done = subprocess.run(
                command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=_PATIENCE
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"the proof of the export took more than {_PATIENCE:.0f} s; try again") from error
    if done.returncode != 0:
        reason = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit status {done.returncode}")
        raise ExportError(f"the exported folder could not be opened in a fresh process, so it is not kept: {reason}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _bytes_of(model: PreTrainedModel) -> int:
    """What the weights take in a file; tied copies must have left already, a folder holds each of them."""
    return sum(parameter.nbytes for parameter in model.parameters())


def reader_of(folder: Path, model: PreTrainedModel, kind: KindName) -> Any:
    """The tokenizer as strangers will use it; of a labelled kind it pads as the model was trained."""
    reader = load_reader(folder, kind)
    if not hasattr(reader, "init_kwargs"):  # of images
        return reader
    for how_opened in ("is_local", "local_files_only"):  # transformers would write both into the folder
        reader.init_kwargs.pop(how_opened, None)
    if reader.pad_token is None:
        reader.pad_token = reader.eos_token
    if KINDS[kind].labelled and model.config.pad_token_id is not None:
        reader.pad_token = reader.convert_ids_to_tokens(model.config.pad_token_id)
        reader.padding_side = "left" if family_in(model).pads_left else "right"
    return reader


def require_free(to: Path) -> None:
    if to.is_dir() and not any(to.iterdir()):
        return
    if to.exists():
        raise ExportError(f"{to} exists and is not an empty folder; choose a new folder, nothing was written")


def _write_record(folder: Path, proof: Proof, manifest: Manifest, card: ModelCard) -> None:
    record = {
        "pattern": str(manifest.pattern),
        "source_layers": manifest.source_layers,
        "weights_sha256": checkpoint.sha256_of(folder / checkpoint.WEIGHTS),
        "proof": {key: value for key, value in asdict(proof).items() if key != "folder"},
        "card": asdict(card),
        "checkpoint": dict(manifest.extras),
    }
    (folder / "layersearch.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
