"""What a scalar mix of the layers costs a training step: `python -m results.mix-cost.run`.

Knows: models of given shapes with random weights, made-up tokens, the processor's clock. Does not know: tasks, studies.
The same step, with the last layer read and with mixes, in turns within one process of one thread; each turn begins with
another way. What is compared is processor time, turn by turn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from layersearch.mixing import Mixing
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import Training, begin
from layersearch.training.recipe import Recipe
from results.machine import environment, write_csv

SHAPES = {"MiniLM-L6": (6, 384, 12), "BERT-base": (12, 768, 12)}  # layers, width, heads
WAYS = {"last": None, "mix": "", "norm embeddings": "norm embeddings", "after-pooler": "after-pooler"}
VOCABULARY = 2000  # small: the embeddings' share of a step would hide what a mix costs


def training(shape: str, way: str, batch: int, tokens: int, precision: str, steps: int) -> Training:
    """A training of so many steps of `batch` examples of `tokens` tokens each."""
    layers, width, heads = SHAPES[shape]
    config = AutoConfig.for_model(
        "bert",
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_labels=2,
    )
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    how = WAYS[way]
    pattern = Pattern(Pattern.full(layers).blocks, "last" if how is None else "mix")
    model = build(base, pattern, Mixing.parse(how or ""))
    number = batch * steps
    data = Encoded(
        input_ids=np.random.default_rng(0).integers(3, VOCABULARY, number * tokens).astype(np.int32),
        token_type_ids=None,
        offsets=np.arange(0, number * tokens + 1, tokens),
        labels=np.arange(number) % 2,
    )
    recipe = Recipe(batch_size=batch, epochs=1.0, max_length=tokens, precision=precision)  # type: ignore[arg-type]
    return begin(model, "classification", recipe, data)


class Step(NamedTuple):
    """One step and its processor seconds."""

    shape: str
    precision: str
    way: str
    turn: int
    seconds: float


def measured(shape: str, batch: int, tokens: int, precision: str, turns: int) -> list[Step]:
    """One step a way and turn; the first turn warms up and is left out."""
    steps = turns + 1
    trained = {way: training(shape, way, batch, tokens, precision, steps) for way in WAYS}
    found: list[Step] = []
    for turn in range(steps):
        order = list(WAYS)[turn % len(WAYS) :] + list(WAYS)[: turn % len(WAYS)]
        for way in order:
            began = time.process_time()
            trained[way].advance((turn + 1) / steps)
            found.append(Step(shape, precision, way, turn, round(time.process_time() - began, 4)))
    return [step for step in found if step.turn]


def summary(found: list[Step]) -> list[str]:
    """A line a way: the median over turns of its time over that of reading the last layer, and the quartiles."""
    lines = []
    for shape, precision in dict.fromkeys((step.shape, step.precision) for step in found):
        here = sorted(step for step in found if (step.shape, step.precision) == (shape, precision))
        seconds = {way: np.array([step.seconds for step in here if step.way == way]) for way in WAYS}
        for way in list(WAYS)[1:]:
            low, middle, high = np.quantile(seconds[way] / seconds["last"], [0.25, 0.5, 0.75])
            cells = (shape, precision, way, f"{median(seconds['last']):.3f}", f"{middle:.3f}", f"{low:.3f}-{high:.3f}")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure, write the table and print what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32"], choices=["bf16", "fp32"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "mix-cost.csv")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: list[Step] = []
    for shape in asked.shapes:
        for precision in asked.precisions:
            found += measured(shape, asked.batch, asked.tokens, precision, asked.turns)
            write_csv(asked.out, [step._asdict() for step in found])
    print(environment("torch", "transformers"))
    print("\n".join(summary(found)))


if __name__ == "__main__":
    main()
