"""The proof of an export, run in a fresh process: `python -m layersearch.models.proof FOLDER CASE`.

Knows: how anybody would open the folder, with plain transformers, and how to compare it with what a JSON file expects.
Does not know: layersearch's checkpoints, patterns or surgery, so nothing of them can hide a fault.

The case holds `texts` (lists of one or two strings), `max_length`, `input_ids`, `logits` [n, num_labels], `parameters`
and `tolerance`. The answer is one line of JSON: `failed` (sentences with numbers, empty if all is well) and
`max_difference`, the largest absolute difference of a logit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def examine(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Open the folder as a stranger would and list what differs from the case."""
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True, trust_remote_code=False
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    batch = encode(tokenizer, case["texts"], case["max_length"])
    with torch.no_grad():
        logits = model.eval()(**batch).logits
    failed = [f"{what}: {names}" for what, names in _keys(info).items() if names]
    found, expected = sum(parameter.numel() for parameter in model.parameters()), case["parameters"]
    if found != expected:
        failed.append(f"parameters: {found} instead of {expected}")
    if batch["input_ids"].tolist() != case["input_ids"]:
        failed.append("tokenizer: other token ids for the same texts")
    return _with_logits(failed, logits, torch.tensor(case["logits"]), case["tolerance"])


def encode(tokenizer: Any, texts: list[list[str]], max_length: int) -> dict[str, torch.Tensor]:
    """One padded batch, int64 [n, tokens] each; `texts` are single texts or pairs."""
    firsts = [text[0] for text in texts]
    seconds = [text[1] for text in texts] if len(texts[0]) > 1 else None
    encoded = tokenizer(firsts, seconds, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
    return dict(encoded)


def _keys(info: dict[str, Any]) -> dict[str, list[str]]:
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    return {kind.replace("_", " "): sorted(str(key) for key in info[kind])[:3] for kind in kinds}


def _with_logits(failed: list[str], logits: torch.Tensor, expected: torch.Tensor, tolerance: float) -> dict[str, Any]:
    if logits.shape != expected.shape:
        failed.append(f"logits: shape {list(logits.shape)} instead of {list(expected.shape)}")
        return {"failed": failed, "max_difference": None}
    difference = (logits - expected).abs().max().item()
    if not difference <= tolerance:
        failed.append(f"logits: they differ by up to {difference:.3g}, allowed are {tolerance:.3g}")
    return {"failed": failed, "max_difference": difference}


if __name__ == "__main__":
    print(json.dumps(examine(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))))
