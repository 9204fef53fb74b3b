"""Export as ONNX: a checkpoint of any pattern becomes a folder for ONNX Runtime that is proven right, or nothing.

Knows: what belongs into such a folder, on which inputs it has to repeat PyTorch's answers, and how to have that
examined by a fresh process before the folder gets its name. Does not know: the study, training, the exporter itself.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from layersearch.errors import ExportError
from layersearch.kinds import KindName
from layersearch.models import checkpoint
from layersearch.models.base import quiet
from layersearch.models.card import ModelCard, write_card
from layersearch.models.checkpoint import Manifest
from layersearch.models.export import name_labels, reader_of, require_free, require_passed, run_proof
from layersearch.models.onnx import FILE, require_onnx, write_onnx
from layersearch.models.onnx_proof import ANSWERS, write_encoded
from layersearch.models.proof import answers, encode, ids_of
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import predict

TOLERANCE = 1e-4
"""Largest absolute difference of a logit, in units of the largest logit where that is above 1: other kernels than
PyTorch's round otherwise."""

METRIC_TOLERANCE = 1e-4
"""Largest difference of the metric: one example of a million decided otherwise, or a rank turned by rounding."""


@dataclass(frozen=True)
class Held:
    """Encoded validation examples on which the graph has to score as the model does; `score` is the task's `metric`."""

    encoded: Encoded
    metric: str
    score: Callable[[NDArray[np.float32]], float]


@dataclass(frozen=True)
class OnnxProof:
    """That a fresh process ran the graph in `folder` with ONNX Runtime and found PyTorch's answers.

    `shapes` are the batches that were compared, inputs of one text or pair each: [batch, tokens], of images
    [batch, channels, height, width]; the graph was traced at the first. The logits differ by `max_difference` at most,
    where `tolerance` is allowed. Over `examples` of the validation set the metric is `onnx_score` and PyTorch's
    `score`. `parameters` are the candidate's; `seconds` is how long the process took.
    """

    folder: Path
    parameters: int
    shapes: tuple[tuple[int, ...], ...]
    max_difference: float
    tolerance: float
    seconds: float
    examples: int = 0
    metric: str = ""
    score: float | None = None
    onnx_score: float | None = None


def export_onnx(
    source: Path,
    to: Path,
    tokenizer_folder: Path,
    texts: Sequence[tuple[str, ...]],
    card: ModelCard,
    max_length: int = 128,
    held: Held | None = None,
) -> OnnxProof:
    """Write the checkpoint in the folder `source` as `to/model.onnx` with configuration and tokenizer, proven.

    Any pattern goes; batch and length stay open. `texts` are at least two real examples, each of one text or a pair.
    `to` gets its name only after a fresh process has repeated the answers; on any error nothing is left behind. Raises
    ExportError (the extra is not installed, the exporter cannot do this family, a folder that is not empty, a failed
    proof with its numbers), ModelError (a damaged checkpoint), LayersearchError (no room on the disk).
    """
    require_onnx()
    require_free(to)
    model, manifest = checkpoint.load(source)
    name_labels(model, card.labels)
    reader = reader_of(tokenizer_folder, model, manifest.kind)
    try:
        with checkpoint.new_folder(to, needed=2 * manifest.size) as part:
            with quiet():
                model.config.save_pretrained(part)
                reader.save_pretrained(part)
            batches = _batches(texts, max_length)
            write_onnx(model, encode(reader, batches[0][0], max_length), part / FILE, manifest.kind)
            proof = replace(_prove(part, model, reader, manifest.kind, batches, held), folder=to)
            (part / "README.md").write_text(write_card(card, manifest) + _how_to_open(manifest.kind), encoding="utf-8")
            _write_record(part, proof, manifest, card)
    except OSError as error:
        raise ExportError(f"cannot write {to}: {error.strerror or error}; choose another folder") from error
    return proof


def _batches(texts: Sequence[tuple[str, ...]], max_length: int) -> list[tuple[list[list[str]], int]]:
    """Texts and the length to cut them at: two to trace with; all; the shortest and the longest alone; some, cut."""
    listed = sorted((list(text) for text in texts), key=lambda text: sum(map(len, text)))
    if len(listed) < 2:
        listed = listed * 2
    middle = len(listed) // 2
    return [
        (listed[middle - 1 : middle + 1], max_length),
        (listed, max_length),
        (listed[:1], max_length),
        (listed[-1:], max_length),
        (listed[-3:], max(4, max_length // 4)),
    ]


def _prove(
    part: Path,
    model: PreTrainedModel,
    reader: Any,
    kind: KindName,
    batches: Sequence[tuple[list[list[str]], int]],
    held: Held | None,
) -> OnnxProof:
    """Have a fresh process answer what `model` answers here, and compare. Raises ExportError."""
    expected, largest, shapes = [], 1.0, []
    for texts, max_length in batches:
        inputs = encode(reader, texts, max_length)
        logits = answers(model, inputs)
        largest = max(largest, logits.abs().max().item())
        shapes.append(tuple(next(iter(inputs.values())).shape))
        expected.append(
            {"texts": texts, "max_length": max_length, "input_ids": ids_of(inputs), "logits": logits.tolist()}
        )
    tolerance = TOLERANCE * largest
    case = {"kind": kind, "tolerance": tolerance, "batches": expected}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "held.npz"
        if held is not None:
            write_encoded(held.encoded, data)
        answer = run_proof("layersearch.models.onnx_proof", part, case, *([data] if held is not None else []))
        seconds = time.perf_counter() - started
        require_passed(answer)
        found = np.load(data.with_name(ANSWERS), allow_pickle=False) if held is not None else None
    proof = OnnxProof(part, parameters, tuple(shapes), answer["max_difference"], tolerance, seconds)
    if held is None or found is None:
        return proof
    here, there = held.score(predict(model, kind, held.encoded, "fp32")), held.score(found)
    if not abs(here - there) <= METRIC_TOLERANCE * max(1.0, abs(here)):
        raise ExportError(
            f"the exported folder did not pass its proof, so it is not kept: {held.metric} over {len(held.encoded)} "
            f"validation examples is {there:.6f} instead of {here:.6f}"
        )
    return replace(proof, examples=len(held.encoded), metric=held.metric, score=here, onnx_score=there)


def _how_to_open(kind: KindName) -> str:
    inputs = "pixel_values" if kind == "image-classification" else "input_ids and attention_mask"
    return f"""
## ONNX

`model.onnx` takes {inputs} and what else the tokenizer gives, of any batch size and length, and answers with the
logits; there are no weights for PyTorch here. With the files of this folder in `FOLDER`:

    import onnxruntime
    session = onnxruntime.InferenceSession("FOLDER/model.onnx")
"""


def _write_record(folder: Path, proof: OnnxProof, manifest: Manifest, card: ModelCard) -> None:
    record: Mapping[str, Any] = {
        "form": "onnx",
        "pattern": str(manifest.pattern),
        "source_layers": manifest.source_layers,
        "weights_sha256": checkpoint.sha256_of(folder / FILE),
        "proof": {key: value for key, value in asdict(proof).items() if key != "folder"},
        "card": asdict(card),
        "checkpoint": dict(manifest.extras),
    }
    (folder / "layersearch.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
