"""The proof of an export, run in a fresh process: `python -m layersearch.models.proof FOLDER CASE`.

Knows: how anybody would open the folder, with plain transformers, and how to compare it with what a JSON file expects.
Does not know: layersearch's checkpoints, patterns or surgery, so nothing of them can hide a fault.

The case holds `head` and `reader` (classes of transformers), `texts` (lists of one or two strings, for images the names
of their files), `max_length`, `input_ids` (none for images), `logits` as `answers` gives them, `parameters` and
`tolerance`. The answer is one line of JSON: `failed` (sentences with numbers, empty if all is well) and
`max_difference`, the largest absolute difference of a logit. A classifier that reads the last token of a text finds it
by the padding token, so it must answer a short text alone as it does between longer ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

_PADDED = 100
"""Times the tolerance that a text alone may differ from itself padded: sums over other shapes round otherwise."""


def examine(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Open the folder as a stranger would and list what differs from the case."""
    model, info = getattr(transformers, case["head"]).from_pretrained(
        folder, output_loading_info=True, trust_remote_code=False
    )
    reader = getattr(transformers, case["reader"]).from_pretrained(folder, trust_remote_code=False)
    batch = encode(reader, case["texts"], case["max_length"])
    logits = answers(model.eval(), batch)
    failed = [f"{what}: {names}" for what, names in _keys(info).items() if names]
    found, expected = sum(parameter.numel() for parameter in model.parameters()), case["parameters"]
    if found != expected:
        failed.append(f"parameters: {found} instead of {expected}")
    if ids_of(batch) != case["input_ids"]:
        failed.append("tokenizer: other token ids for the same texts")
    if hasattr(model, "score"):  # the head that reads the last token
        failed += _of_padding(model, reader, case, logits)
    return _with_logits(failed, logits, torch.tensor(case["logits"]), case["tolerance"])


@torch.no_grad()
def answers(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits; start and end of a span side by side; of a language model those of the tokens that do follow."""
    output = model(**batch)
    if "start_logits" in output:
        return torch.stack((output.start_logits, output.end_logits), dim=-1)
    logits: torch.Tensor = output.logits
    if "input_ids" in batch and logits.shape[-1] == model.config.vocab_size:
        return logits[:, :-1].gather(-1, batch["input_ids"][:, 1:, None])
    return logits


def ids_of(batch: dict[str, torch.Tensor]) -> list[list[int]]:
    """The tokens of a batch; none of images."""
    return batch["input_ids"].tolist() if "input_ids" in batch else []


def encode(reader: Any, texts: list[list[str]], max_length: int) -> dict[str, torch.Tensor]:
    """One padded batch, int64 [n, tokens] each; `texts` are single texts or pairs, or images by their files' names."""
    firsts = [text[0] for text in texts]
    of_images = isinstance(reader, transformers.ImageProcessingMixin)
    if of_images:
        return dict(reader(images=[_image(name) for name in firsts], return_tensors="pt"))
    seconds = [text[1] for text in texts] if len(texts[0]) > 1 else None
    encoded = reader(firsts, seconds, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
    return dict(encoded)


def _image(name: str) -> Any:
    from PIL import Image

    return Image.open(name).convert("RGB")


def _of_padding(model: Any, reader: Any, case: dict[str, Any], logits: torch.Tensor) -> list[str]:
    """What is wrong with the shortest text, padded in the batch that gave `logits` [n, labels] and alone."""
    texts = case["texts"]
    shortest = min(range(len(texts)), key=lambda place: sum(map(len, texts[place])))
    alone = answers(model, encode(reader, [texts[shortest]], case["max_length"]))[0]
    difference = (alone - logits[shortest]).abs().max().item()
    if difference <= _PADDED * case["tolerance"]:
        return []
    return [f"padding: the logits of a text differ by {difference:.3g} alone and padded; config.json has another pad"]


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
