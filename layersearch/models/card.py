"""The model card: what an exported folder says about itself to a person and to the Hugging Face hub.

Knows: the facts of one finished trial and how to write them as a README with a metadata header. Does not know: where
the facts come from, weights, or whether the export passed its proof.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.filesize import decimal

from layersearch.counts import count
from layersearch.kinds import KINDS, Kind
from layersearch.models.card_code import opening
from layersearch.models.case import Own
from layersearch.models.checkpoint import Manifest
from layersearch.models.families import FAMILIES, Form
from layersearch.names import model_name
from layersearch.pattern import Pattern, legend_for
from layersearch.training.recipe import compressed_bytes

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


@dataclass(frozen=True)
class Score:
    """The task's metric of the unchanged model (`baseline`) and of the candidate on one split, with the same recipe.

    `split` is said in words, such as `search split (15 % of the training data)`; `interval` is the 95 % one of the
    candidate, `baseline_interval` the unchanged model's; `kept` is the share of its score that the candidate keeps.
    `confirmed`: on the official validation set, by fresh seeds.
    """

    split: str
    baseline: float
    candidate: float
    interval: tuple[float, float] | None = None
    baseline_interval: tuple[float, float] | None = None
    kept: float | None = None
    confirmed: bool = False


@dataclass(frozen=True)
class Data:
    """What the scores are of: the data set's `name` for people, its `type` and `config` on the hub where it has them.

    `sizes` are examples to train on, to search on and to confirm on; `fingerprint` is a hash over all of them.
    """

    name: str
    type: str
    config: str | None
    sizes: tuple[int, int, int]
    fingerprint: str


@dataclass(frozen=True)
class LatencyRow:
    """Milliseconds of a forward pass, median, at a `setting` in words; the unchanged model's is None if unknown."""

    setting: str
    baseline: float | None
    candidate: float


@dataclass(frozen=True)
class ModelCard:
    """The facts of an export that its checkpoint does not hold.

    `base_model` is the name in the hub or a package as the user gave it, or that of a folder (`model_name`);
    `baseline_parameters` counts the unchanged model with the same head; `labels` name the classes in the order of
    the head's outputs, none for regression; `recipe` and `versions` (of the libraries that export) are printed as
    they are, and so is `trained_with`, the versions that trained the weights, None where the study does not tell;
    `command` is what made the study; `start` says in words what the candidate was trained from, None for the base
    model's own weights; `confirmed_with` are the fresh seeds; `times` were taken on `hardware`; `form` is that of
    the folder; `mix` says what was learnt to mix of the layers, None where the head reads the last one. `zeros` are
    the weights of the layers' matrices that are zero, and how many there are; `non_zero` of all parameters are not.
    `diverged` says in words which trainings came to nothing, empty where none did. `own` is what the weights of the
    folder score, None where nobody scored them.
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
    data: Data | None = None
    confirmed_with: tuple[int, ...] = ()
    times: tuple[LatencyRow, ...] = ()
    hardware: str = ""
    form: Form = "native"
    mix: str | None = None
    zeros: tuple[int, int] = (0, 0)
    non_zero: int = 0
    diverged: str = ""
    own: Own | None = None


METRICS = {  # what the hub calls them, where it is another name
    "matthews": "matthews_correlation",
    "spearman": "spearmanr",
    "pearson": "pearsonr",
    "f1-macro": "f1",
    "f1-micro": "f1",
}


def _of_start(card: ModelCard) -> str:
    return "" if card.start is None else f"; this candidate was trained from {card.start}"


def write_card(card: ModelCard, manifest: Manifest) -> str:
    """The text of README.md."""
    share = manifest.parameters / card.baseline_parameters
    revision = f" (revision `{card.revision}`)" if card.revision else ""
    whole = manifest.pattern.blocks == Pattern.full(manifest.source_layers).blocks
    made = "all its layers, fine-tuned" if whole else "some of its layers dropped or repeated, the rest fine-tuned"
    family = FAMILIES.get(manifest.config["model_type"])
    if family is not None and family.shared:
        depth, layers = manifest.pattern.depth, manifest.source_layers
        made = f"its one layer applied {depth} times, {layers} in the unchanged model, and fine-tuned"
    made += "; its head reads a mix of them" if manifest.pattern.mixes else ""
    return f"""{_header(card, manifest)}
# {card.base_model} with the layers `{manifest.pattern}`

Made by layersearch from `{card.base_model}`{revision} for the task {card.task}: {made}. The code
that opens it stands below; `layersearch.json` holds the proof.

| | |
|---|---|
| pattern | `{manifest.pattern}` |
| layers | `{manifest.pattern.diagram(manifest.source_layers)}` ({legend_for([manifest.pattern])}; lowest layer left) |
| source layers, counted from 0 | {_sources(manifest.pattern)}{_of_stacks(manifest)} |
| dropped of 0-{manifest.source_layers - 1} | {manifest.pattern.dropped_in_words(manifest.source_layers) or "none"} |
| parameters | {manifest.parameters:,} of {card.baseline_parameters:,} ({share:.1%}){_tied(manifest.pattern)} |
{_zeros(card, manifest)}| outputs | {_outputs(card, KINDS[manifest.kind])} |
{_mix(card)}{_data(card.data)}
{opening(card.form, KINDS[manifest.kind])}
## Scores

The unchanged model was fine-tuned and scored with the same recipe{_of_start(card)}.

| split | {card.metric}, unchanged model | {card.metric}, this model | 95 % interval | kept |
|---|---|---|---|---|
{_scores(card)}

A score on the search split is the best of many and therefore optimistic; the one on the validation set is to be quoted.
{_other_trainings(card)}{_diverged(card)}{_times(card)}
## Training

Seed {card.seed}{_fresh(card)}. Recipe: {_pairs(card.recipe)}.

Trained with {card.trained_with or "versions that the study does not tell"}.

Exported with {_pairs(card.versions)}.

    {card.command}
"""


def _mix(card: ModelCard) -> str:
    if card.mix is None:
        return ""
    how = f" ({card.recipe['mix']})" if card.recipe.get("mix") else ""
    return f"| read-out | a scalar mix of the layers{how} in place of the last one, learnt: {card.mix} |\n"


def _zeros(card: ModelCard, manifest: Manifest) -> str:
    """What is left without zeros, and that it buys no time; nothing where hardly a weight of the matrices is zero."""
    zeros, weights = card.zeros
    if "sparsity" not in card.recipe or not zeros:
        return ""
    left = decimal(compressed_bytes(manifest.parameters, card.non_zero))
    return (
        f"| zeros | {zeros / weights:.1%} of the {count(weights, 'weight')} of the layers' matrices; {card.non_zero:,} "
        "parameters are not zero. PyTorch is not faster with zeros, and the files here hold them like other numbers: "
        f"with a bit a parameter that says where they are it would be {left} |\n"
    )


def _other_trainings(card: ModelCard) -> str:
    """Whose score the confirmed one is."""
    if not any(score.confirmed for score in card.scores):
        return ""
    return (
        "The confirmed score is that of other trainings of the same pattern, with fresh seeds, not of these weights.\n"
    )


def _diverged(card: ModelCard) -> str:
    return f"\nWarning: {card.diverged}.\n" if card.diverged else ""


def _tied(pattern: Pattern) -> str:
    return ", tied copies counted once; in this folder each has its own, with equal values" if pattern.owners() else ""


def _header(card: ModelCard, manifest: Manifest) -> str:
    """The metadata of the hub; a folder of the user's is no hub name, so it is left out."""
    from huggingface_hub import ModelCardData

    on_hub = re.fullmatch(r"([\w.-]+/)?[\w.-]+", card.base_model) and not (card.revision or "").startswith("local-")
    data = ModelCardData(
        base_model=card.base_model if on_hub else None,
        datasets=card.data.type if card.data is not None and "/" in card.data.type else None,
        library_name="transformers",
        pipeline_tag=KINDS[manifest.kind].pipeline,
        tags=["layersearch", "layer-dropping"],
        metrics=[METRICS.get(card.metric, card.metric)],
        model_name=f"{model_name(card.base_model)} with the layers {manifest.pattern}",
        eval_results=_results(card, KINDS[manifest.kind]),
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _results(card: ModelCard, kind: Kind) -> list[EvalResult] | None:
    """For the hub's `model-index` the score of these weights, else the confirmed one, else the search's, named so."""
    from huggingface_hub import EvalResult

    if card.data is None:
        return None
    confirmed = [(score.split, score.candidate, True) for score in card.scores if score.confirmed]
    searched = [(score.split, score.candidate, False) for score in card.scores[:1]]
    quoted = [(card.own.split, card.own.score, True)] if card.own else confirmed or searched
    return [
        EvalResult(
            task_type=kind.pipeline,
            dataset_type=card.data.type,
            dataset_name=card.data.name,
            dataset_config=card.data.config,
            dataset_split="validation" if official else "train",
            metric_type=METRICS.get(card.metric, card.metric),
            metric_name=f"{card.metric}, {split}",
            metric_value=round(score, 6),
        )
        for split, score, official in quoted
    ] or None


def _data(data: Data | None) -> str:
    if data is None:
        return ""
    train, search, validation = data.sizes
    return (
        f"| data | {data.name}: {count(train, 'example')} to train on, {search:,} to search on, {validation:,} in the "
        f"validation set; fingerprint `{data.fingerprint}` |\n"
    )


def _times(card: ModelCard) -> str:
    if not card.times:
        return ""
    rows = (
        f"| {time.setting} | {'' if time.baseline is None else f'{time.baseline:.3g}'} | {time.candidate:.3g} |"
        for time in card.times
    )
    table = "\n".join(("| | unchanged model | this model |", "|---|---|---|", *rows))
    return f"\nMilliseconds of a forward pass on {card.hardware}, median:\n\n{table}\n"


def _fresh(card: ModelCard) -> str:
    return f"; confirmed with the seeds {_numbers(card.confirmed_with)}" if card.confirmed_with else ""


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
    own = [] if card.own is None else [f"| {card.own.split} | | {card.own.score:.4f} | | |"]
    told = [
        f"| {score.split} | {score.baseline:.4f}{_beside(score.baseline_interval)} | {score.candidate:.4f} | "
        f"{_interval(score.interval)} | {'' if score.kept is None else f'{score.kept:.1%}'} |"
        for score in card.scores
    ]
    return "\n".join([*own, *told])


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _beside(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({_interval(interval)})"


def _pairs(values: Mapping[str, str | int | float | bool]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
