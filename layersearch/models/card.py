"""The model card: what an exported folder says about itself to a person and to the Hugging Face hub.

Knows: the facts of one finished trial and how to write them as a README with a metadata header. Does not know: where
the facts come from, weights, or whether the export passed its proof.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from layersearch.kinds import KINDS, Kind
from layersearch.models.checkpoint import Manifest
from layersearch.models.families import FAMILIES, Form
from layersearch.pattern import LEGEND, Pattern


@dataclass(frozen=True)
class Score:
    """The task's metric of the unchanged model (`baseline`) and of the candidate on one split, with the same recipe.

    `split` is said in words, such as `search split (15 % of the training data)`; `interval` is the 95 % one of the
    candidate.
    """

    split: str
    baseline: float
    candidate: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ModelCard:
    """The facts of an export that its checkpoint does not hold.

    `base_model` is the hub name or folder as the user gave it; `baseline_parameters` counts the unchanged model with
    the same head; `labels` name the classes in the order of the head's outputs, none for regression; `recipe` and
    `versions` (of the libraries that export) are printed as they are, and so is `trained_with`, the versions that
    trained the weights, None where the study does not tell; `command` is what made the study; `start` says in words
    what the candidate was trained from, None for the base model's own weights; `form` is that of
    the folder.
    """

    base_model: str
    revision: str | None
    task: str
    labels: tuple[str, ...]
    metric: str
    scores: tuple[Score, ...]
    baseline_parameters: int
    recipe: Mapping[str, str | int | float | bool]
    seed: int
    versions: Mapping[str, str]
    trained_with: str | None
    command: str
    start: str | None = None
    form: Form = "native"


def _trusted(card: ModelCard) -> str:
    if card.form != "with code":
        return ""
    return " and `trust_remote_code=True`, or without running its code with `layersearch.load`"


def _opener(card: ModelCard, kind: Kind) -> str:
    if card.form == "onnx":
        return "ONNX Runtime, `model.onnx`, which takes what the tokenizer gives (batch and length open)"
    return f"`{kind.head}.from_pretrained`{_trusted(card)}"


def _of_start(card: ModelCard) -> str:
    return "" if card.start is None else f"; this candidate was trained from {card.start}"


def write_card(card: ModelCard, manifest: Manifest) -> str:
    """The text of README.md."""
    share = manifest.parameters / card.baseline_parameters
    revision = f" (revision `{card.revision}`)" if card.revision else ""
    whole = manifest.pattern == Pattern.full(manifest.source_layers)
    made = "all its layers, fine-tuned" if whole else "some of its layers dropped or repeated, the rest fine-tuned"
    family = FAMILIES.get(manifest.config["model_type"])
    if family is not None and family.shared:
        depth, layers = manifest.pattern.depth, manifest.source_layers
        made = f"its one layer applied {depth} times, {layers} in the unchanged model, and fine-tuned"
    return f"""{_header(card, KINDS[manifest.kind])}
# {card.base_model} with the layers `{manifest.pattern}`

Made by layersearch from `{card.base_model}`{revision} for the task {card.task}: {made}. The folder opens with
{_opener(card, KINDS[manifest.kind])}; `layersearch.json` holds the proof.

| | |
|---|---|
| pattern | `{manifest.pattern}` |
| layers | `{manifest.pattern.diagram(manifest.source_layers)}` ({LEGEND}; lowest layer left) |
| source layers, counted from 0 | {_sources(manifest.pattern)}{_of_stacks(manifest)} |
| dropped of 0-{manifest.source_layers - 1} | {_numbers(manifest.pattern.dropped(manifest.source_layers))} |
| parameters | {manifest.parameters:,} of {card.baseline_parameters:,} ({share:.1%}){_tied(manifest.pattern)} |
| outputs | {_outputs(card, KINDS[manifest.kind])} |

## Scores

The unchanged model was fine-tuned and scored with the same recipe{_of_start(card)}.

| split | {card.metric}, unchanged model | {card.metric}, this model | 95 % interval |
|---|---|---|---|
{_scores(card)}

## Training

Seed {card.seed}. Recipe: {_pairs(card.recipe)}.

Trained with {card.trained_with or "versions that the study does not tell"}.

Exported with {_pairs(card.versions)}.

    {card.command}
"""


def _tied(pattern: Pattern) -> str:
    return ", tied copies counted once; in this folder each has its own, with equal values" if pattern.owners() else ""


def _header(card: ModelCard, kind: Kind) -> str:
    """The metadata of the hub; a folder of the user's is no hub name, so it is left out."""
    from huggingface_hub import ModelCardData

    is_hub_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", card.base_model) is not None
    data = ModelCardData(
        base_model=card.base_model if is_hub_name else None,
        library_name="transformers",
        pipeline_tag=kind.pipeline,
        tags=["layersearch", "layer-dropping"],
        metrics=[card.metric],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _sources(pattern: Pattern) -> str:
    return ", ".join(f"{block.layer}" for block in pattern.blocks)


def _of_stacks(manifest: Manifest) -> str:
    """Where the decoder of a model with two stacks begins; the candidate's own configuration has its depths."""
    family = FAMILIES.get(manifest.config.get("model_type", ""))
    if family is None or family.decoder is None:
        return ""
    first = manifest.config[family.depth_key]
    return f" (the encoder has {first} of them, the decoder {manifest.pattern.depth - first})"


def _numbers(layers: tuple[int, ...]) -> str:
    return ", ".join(str(layer) for layer in layers) or "none"


def _outputs(card: ModelCard, kind: Kind) -> str:
    return ", ".join(f"{number} {label}" for number, label in enumerate(card.labels)) or kind.outputs


def _scores(card: ModelCard) -> str:
    return "\n".join(
        f"| {score.split} | {score.baseline:.4f} | {score.candidate:.4f} | {_interval(score.interval)} |"
        for score in card.scores
    )


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _pairs(values: Mapping[str, str | int | float | bool]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
