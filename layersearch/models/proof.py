"""The proof of exports, run in a fresh process: `python -m layersearch.models.proof CASES`.

Knows: how anybody would open a folder, with plain transformers, and how to compare it with what a JSON file expects.
Does not know: layersearch's checkpoints, patterns or surgery, so nothing of them can hide a fault.

CASES is a JSON list of cases, each with its `folder` and what `layersearch.models.export.Case` says; the answer is one
line of JSON, a list of what `examine` says of each. A case without `texts` is proven by its made inputs alone. A
classifier that reads the last token of a text finds it by the padding token, so it must answer a short text alone as it
does between longer ones. A model that generates must do so with a cache as without.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

from layersearch.kinds import KINDS, KindName, answers_of, logits_a_unit
from layersearch.models.case import GRAPH
from layersearch.tasks.task import Encoded
from layersearch.training.batches import batch_of, scoring_order

ANSWERS = ".answers"  # the ending of the file with the answers to the examples in the file before it
_OTHER_SHAPES = 100
"""Times the tolerance that sums over other shapes may differ by: a text padded and alone, a step with a cache."""
_STEPS = 8  # tokens that are generated
_SCORED_AT_ONCE = 32  # examples


def examine(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Open the folder as a stranger would and list what differs from the case.

    `failed` are sentences with numbers, empty if all is well; `max_difference` is the largest absolute difference of a
    logit, None where shapes differ; `cached` says whether generation was compared.
    """
    model, failed = _graph_in(folder, case) if case["graph"] else _model_in(folder, case)
    reader = getattr(transformers, case["reader"]).from_pretrained(folder, trust_remote_code=False)
    batch = batch_from(case["made"])
    compared = [_of_texts(model, reader, case)] if case["texts"] else []
    compared += [_of_texts(model, reader, {**case, **other}) for other in case["others"]]
    compared.append(
        _compared("logits of made inputs", answers(model, batch), case["made"]["logits"], case["tolerance"])
    )
    generates = bool(model.can_generate())
    if generates:
        failed += _of_cache(model, batch, case["tolerance"])
    if case["measured"]:
        scored = _encoded_in(case["measured"])
        save_file({"answers": kept(model, case["kind"], scored, left=case["left"])}, case["measured"] + ANSWERS)
    differences = [difference for _, difference in compared if difference is not None]
    largest = max(differences) if len(differences) == len(compared) else None
    failed += [sentence for sentences, _ in compared for sentence in sentences]
    return {"failed": failed, "max_difference": largest, "cached": generates}


def _model_in(folder: Path, case: dict[str, Any]) -> tuple[Any, list[str]]:
    """The model, and what is wrong with its keys and parameters."""
    model, info = getattr(transformers, case["head"]).from_pretrained(
        folder, output_loading_info=True, use_safetensors=True, trust_remote_code=case["code"]
    )
    failed = [f"{what}: {names}" for what, names in _keys(info).items() if names]
    found, expected = sum(parameter.numel() for parameter in model.parameters()), case["parameters"]
    if found != expected:
        failed.append(f"parameters: {found} instead of {expected}")
    tensors = dict(model.named_parameters())
    zeros = sum(int((tensors[name] == 0).sum()) for name in case["matrices"] if name in tensors)
    if zeros != case["zeros"][0]:
        failed.append(f"weights that are exactly zero: {zeros} instead of {case['zeros'][0]}")
    return model.eval(), failed


def _graph_in(folder: Path, case: dict[str, Any]) -> tuple[Any, list[str]]:
    """What ONNX Runtime makes of the folder, and what is wrong with its zeros; a graph has no keys to compare.

    It may hold more zeros than the matrices of the layers do.
    """
    from layersearch.models.onnx import OnnxModel, zeros_in_graph

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    expected = case["zeros"][0]
    zeros = zeros_in_graph(folder / GRAPH) if expected else 0
    failed = [f"weights that are exactly zero: {zeros} instead of {expected} or more"] if zeros < expected else []
    return OnnxModel(folder / GRAPH, config), failed


@torch.no_grad()
def answers(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits; start and end of a span side by side; of a language model those of the tokens that do follow.

    A padded place answers 0: what it says means nothing, and where it sees no token kernels do not agree on it.
    """
    output, mask = model(**batch), batch.get("attention_mask")
    if "start_logits" in output:
        logits: torch.Tensor = torch.stack((output.start_logits, output.end_logits), dim=-1)
    else:
        logits = output.logits
    if "input_ids" in batch and logits.shape[-1] == model.config.vocab_size:
        logits = logits[:, :-1].gather(-1, batch["input_ids"][:, 1:, None])
        mask = None if mask is None else mask[:, :-1] * mask[:, 1:]
    if mask is None or logits.shape[:-1] != mask.shape:
        return logits
    return logits.masked_fill(mask[..., None] == 0, 0.0)


def made_inputs(model: Any, kind: KindName) -> dict[str, Any]:
    """Inputs that stand for no data: tokens from all over the vocabulary, without special ones, or pixels' shape."""
    config = model.config
    if KINDS[kind].reader == "AutoImageProcessor":
        sides = config.image_size if isinstance(config.image_size, list | tuple) else [config.image_size] * 2
        return {"pixels": [2, config.num_channels, *sides]}
    ends = [value for key, value in config.to_dict().items() if key.endswith("_token_id")]
    special = {token for value in ends for token in (value if isinstance(value, list) else [value])}
    words = [token for token in range(logits_a_unit(config, "causal-lm")) if token not in special]
    rows = [[words[7919 * (13 * row + place) % len(words)] for place in range(12)] for row in range(3)]
    last = [config.eos_token_id] if config.is_encoder_decoder else []  # by which some heads find the end of a text
    return {"input_ids": [row + last for row in rows]}


def batch_from(made: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The inputs that `made_inputs` told: `input_ids`, or the shape of `pixels` [n, channels, height, width]."""
    if "pixels" in made:
        number = int(np.prod(made["pixels"]))
        return {"pixel_values": (torch.arange(number) * 37 % 251 / 125 - 1).reshape(made["pixels"])}
    ids = torch.tensor(made["input_ids"])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def kept(model: Any, kind: KindName, scored: Encoded, *, left: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What a score is made of, float32 [units, width], of examples that are padded on the `left` or on the right."""
    found = np.empty((0, 0), dtype=np.float32)
    pad = getattr(model.config, "pad_token_id", None) or 0
    for indices in scoring_order(scored.lengths, _SCORED_AT_ONCE, logits_a_unit(model.config, kind)):
        batch = batch_of(scored, indices, kind, model.device, pad, left)
        some = KINDS[kind].kept(answers_of(model(**batch.inputs), batch.inputs, kind), batch.labels).numpy()
        if not found.size:
            found = np.empty((len(scored.labels), some.shape[1]), dtype=np.float32)
        found[batch.units] = some
    return found


def write_encoded(scored: Encoded, file: Path) -> None:
    """Examples for another process; what only a task's own score needs stays."""
    names = ("input_ids", "token_type_ids", "offsets", "labels", "pixels", "colours")
    arrays = {name: getattr(scored, name) for name in names}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}, file)


def _encoded_in(file: str) -> Encoded:
    arrays: dict[str, Any] = {"token_type_ids": None, **load_file(file)}
    return Encoded(**arrays)


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


def _of_texts(model: Any, reader: Any, case: dict[str, Any]) -> tuple[list[str], float | None]:
    """What is wrong with the real inputs, and the largest difference of a logit."""
    batch = encode(reader, case["texts"], case["max_length"])
    logits = answers(model, batch)
    failed = [] if ids_of(batch) == case["input_ids"] else ["tokenizer: other token ids for the same texts"]
    if hasattr(model, "score"):  # the head that reads the last token
        failed += _of_padding(model, reader, case, logits)
    what = "logits" if not case["graph"] else f"logits of {_shape_of(batch)} inputs"
    wrong, difference = _compared(what, logits, case["logits"], case["tolerance"])
    return failed + wrong, difference


def _shape_of(batch: dict[str, torch.Tensor]) -> str:
    return " x ".join(map(str, next(iter(batch.values())).shape))


def _of_padding(model: Any, reader: Any, case: dict[str, Any], logits: torch.Tensor) -> list[str]:
    """What is wrong with the shortest text, padded in the batch that gave `logits` [n, labels] and alone."""
    texts = case["texts"]
    shortest = min(range(len(texts)), key=lambda place: sum(map(len, texts[place])))
    alone = answers(model, encode(reader, [texts[shortest]], case["max_length"]))[0]
    difference = (alone - logits[shortest]).abs().max().item()
    if difference <= _OTHER_SHAPES * case["tolerance"]:
        return []
    return [f"padding: the logits of a text differ by {difference:.3g} alone and padded; config.json has another pad"]


def _of_cache(model: Any, batch: dict[str, torch.Tensor], tolerance: float) -> list[str]:
    """What is wrong with the next tokens, each the likeliest, told with a cache and without."""
    how = {"max_new_tokens": _STEPS, "min_new_tokens": _STEPS, "do_sample": False, "num_beams": 1}
    how |= {"output_logits": True, "return_dict_in_generate": True}
    told = [torch.stack(model.generate(**batch, **how, use_cache=cached).logits) for cached in (True, False)]
    difference = (told[0] - told[1]).abs().max().item()
    if difference <= _OTHER_SHAPES * tolerance:
        return []
    return [f"cache: the logits of {_STEPS} further tokens differ by up to {difference:.3g} with a cache and without"]


def _keys(info: dict[str, Any]) -> dict[str, list[str]]:
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    return {kind.replace("_", " "): sorted(str(key) for key in info[kind])[:3] for kind in kinds}


def _compared(what: str, logits: torch.Tensor, there: Any, tolerance: float) -> tuple[list[str], float | None]:
    expected = torch.tensor(there)
    if logits.shape != expected.shape:
        return [f"{what}: shape {list(logits.shape)} instead of {list(expected.shape)}"], None
    difference = (logits - expected).abs().max().item()
    wrong = [f"{what}: they differ by up to {difference:.3g}, allowed are {tolerance:.3g}"]
    return wrong * (not difference <= tolerance), difference


if __name__ == "__main__":
    cases = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps([examine(Path(one.pop("folder")), one) for one in cases]))
