"""The proof of an ONNX export, run in a fresh process: `python -m layersearch.models.onnx_proof FOLDER CASE [DATA]`.

Knows: how to open the folder with ONNX Runtime, and how to compare its answers with what a JSON file expects. Does not
know: checkpoints, patterns, PyTorch's model.

The case holds `kind`, `tolerance` and `batches`; each of these has `texts`, `max_length`, `input_ids` and `logits` as
`layersearch.models.proof` explains them. The answer is one line of JSON: `failed` (sentences with numbers, empty if all
is well) and `max_difference`. DATA is an .npz of encoded examples (`layersearch.tasks.task.Encoded`); what the kind of
head keeps of the answers to them goes into `answers.npy` beside it, for the task's metric.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from layersearch.kinds import KINDS
from layersearch.models.onnx import FILE, OnnxModel
from layersearch.models.proof import answers, encode, ids_of
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import predict

ANSWERS = "answers.npy"


def examine(folder: Path, case: dict[str, Any], data: Path | None) -> dict[str, Any]:
    """Open the folder without its PyTorch model and list what differs from the case; answer the examples in `data`."""
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    reader = getattr(transformers, KINDS[case["kind"]].reader).from_pretrained(folder, trust_remote_code=False)
    model = OnnxModel(folder / FILE, config)
    failed: list[str] = []
    worst: float | None = 0.0
    for batch in case["batches"]:
        inputs = encode(reader, batch["texts"], batch["max_length"])
        if ids_of(inputs) != batch["input_ids"]:
            failed.append("tokenizer: other token ids for the same texts")
            continue
        shape = " x ".join(map(str, next(iter(inputs.values())).shape))
        found, expected = answers(model, inputs), torch.tensor(batch["logits"])
        if found.shape != expected.shape:
            failed.append(f"logits of inputs {shape}: shape {list(found.shape)} instead of {list(expected.shape)}")
            continue
        difference = (found - expected).abs().max().item()
        if not difference <= case["tolerance"]:
            failed.append(
                f"logits of inputs {shape}: they differ by up to {difference:.3g}, allowed are {case['tolerance']:.3g}"
            )
        worst = max(worst or 0.0, difference)
    if data is not None and not failed:
        runner: Any = model
        np.save(data.with_name(ANSWERS), predict(runner, case["kind"], read_encoded(data), "fp32"))
    return {"failed": failed, "max_difference": worst}


def write_encoded(encoded: Encoded, file: Path) -> None:
    """Write the arrays of encoded examples; what only their metric needs stays behind."""
    arrays = {field.name: getattr(encoded, field.name) for field in fields(encoded) if field.name != "about"}
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})


def read_encoded(file: Path) -> Encoded:
    """What `write_encoded` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        return Encoded(**{"token_type_ids": None, **arrays})


if __name__ == "__main__":
    told = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    print(json.dumps(examine(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")), told)))
