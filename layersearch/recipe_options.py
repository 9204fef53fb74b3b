"""The options of a recipe, each listed once, and the recipe that they make.

Knows: their words, help and types; the defaults are those of the named recipes. Does not know: commands, other options,
how anything is trained.
"""

from __future__ import annotations

from typing import Annotated

import typer

from layersearch.completion import recipes
from layersearch.errors import WordsError
from layersearch.mixing import WORDS as MIX_WORDS
from layersearch.training.recipe import DROP_EVERY, PRESETS, START_WEIGHTS, TEACH, Recipe, preset
from layersearch.training.schedule import PENALTY, SCORE_RATE, STEPS

DEFAULT = preset("default")

RecipeName = Annotated[str, typer.Option("--recipe", help=f"{', '.join(PRESETS)}.", autocompletion=recipes)]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate, instead of the recipe's.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a step, instead of the recipe's.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training part, instead of the recipe's.")]
Warmup = Annotated[float | None, typer.Option(help="Share of the steps in which the learning rate rises.")]
WeightDecay = Annotated[float | None, typer.Option(help="Weight decay, instead of the recipe's.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens an example, instead of the recipe's.")]
Precision = Annotated[str | None, typer.Option(help="auto (bf16 where the hardware has it), bf16 or fp32.")]
Freeze = Annotated[str | None, typer.Option(help="What is not trained: `embeddings`, and layers such as 0-2 or 4.")]
DropEvery = Annotated[
    float | None, typer.Option(help="Drop one layer after every so many epochs, in place of all before training.")
]
Mix = Annotated[str | None, typer.Option(help=f"How a space's mixes are made, any of: {' '.join(MIX_WORDS)}.")]
MixRate = Annotated[float | None, typer.Option("--mix-lr", help="Peak learning rate of mixes: scalars, gamma.")]
ShareOfZeros = Annotated[
    float | None,
    typer.Option("--sparsity", help="Share of the weights of the layers' matrices that end as zero, such as 0.5."),
]
SparsityMethod = Annotated[
    str | None,
    typer.Option(help="Which: the smallest (magnitude, the default), or by movement or soft-movement towards zero."),
]
SparsityScope = Annotated[
    str | None,
    typer.Option(help="local: the share in each matrix (default); global: over all (default of soft-movement)."),
]
SparsitySteps = Annotated[
    str | None, typer.Option(metavar="SHARE-SHARE", help=f"When their number grows, in shares of the steps; {STEPS}.")
]
SparsityRate = Annotated[
    float | None, typer.Option("--sparsity-lr", help=f"Peak learning rate of movement scores; {SCORE_RATE:g}.")
]
SparsityPenalty = Annotated[
    float | None, typer.Option(help=f"Weight of the penalty on the scores of soft-movement; {PENALTY:g}.")
]
Teach = Annotated[
    str | None, typer.Option(help=f"What a teacher's part in the loss is: {', '.join(TEACH)}; default {TEACH[0]}.")
]
StartWeights = Annotated[
    str | None,
    typer.Option(help=f"Weights of a taught candidate, {' or '.join(START_WEIGHTS)}; default {START_WEIGHTS[0]}."),
]
Seed = Annotated[int, typer.Option(help="Seed of the split, the sampler and the fine-tuning.")]


def recipe_of(
    recipe: RecipeName = "default",
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    epochs: Epochs = None,
    warmup: Warmup = None,
    weight_decay: WeightDecay = None,
    max_length: MaxLength = None,
    precision: Precision = None,
    seed: Seed = Recipe.seed,
    freeze: Freeze = None,
    drop_every: DropEvery = None,
    mix: Mix = None,
    mix_lr: MixRate = None,
    sparsity: ShareOfZeros = None,
    sparsity_method: SparsityMethod = None,
    sparsity_scope: SparsityScope = None,
    sparsity_steps: SparsitySteps = None,
    sparsity_lr: SparsityRate = None,
    sparsity_penalty: SparsityPenalty = None,
    teach: Teach = None,
    start_weights: StartWeights = None,
) -> Recipe:
    """The recipe called `recipe`, with what is said beside it."""
    if drop_every == 0:  # a Recipe's own word for none
        raise WordsError(f"--drop-every {drop_every:g} is not possible; allowed: {DROP_EVERY}")
    return preset(recipe).with_(
        learning_rate=lr,
        batch_size=batch_size,
        epochs=epochs,
        warmup=warmup,
        weight_decay=weight_decay,
        max_length=max_length,
        precision=precision,
        seed=seed,
        freeze=freeze,
        drop_every=drop_every,
        mix=mix,
        mix_lr=mix_lr,
        sparsity=sparsity,
        sparsity_method=sparsity_method,
        sparsity_scope=sparsity_scope,
        sparsity_steps=sparsity_steps,
        sparsity_lr=sparsity_lr,
        sparsity_penalty=sparsity_penalty,
        teach=teach,
        start_weights=start_weights,
    )
