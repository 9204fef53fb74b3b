"""Search methods side by side at equal cost: hypervolume over training work and over time, one table and one figure.

Some courses are replayed: the candidates that a sampler chooses get their scores from a table of every pattern. Others
were run: their candidates' own weights were scored on the validation set, which neither training nor search saw. Every
CSV file in the folder RUNS with the columns of `one_shot.csv` is a method called after the file.
Run from the root of the repository:

    python -m results.search-cost.compare --measured FOLDER [FOLDER] --runs RUNS [--seeds 20]

Knows: tables, methods, what is reported. Does not know: what a run's rows mean, how anything is trained or chosen.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from layersearch.pattern import Pattern
from layersearch.search.quality import hypervolume
from layersearch.search.scores import read_table
from results.machine import as_table, environment, write_csv

from .claims import HALVING, claims
from .courses import LAYERS, Method, Rate, Step, above_from, curve_of, read_runs, steps_of, times_as_much
from .curves import draw
from .halving import halved, with_rungs
from .samplers import SAMPLERS, Problem, course, fixed, greedy, problem_of, quartiles
from .volumes import at_costs

HERE = Path(__file__).parent
MARKS = ("<!-- from here written by compare.py -->", "<!-- to here -->")
TITLES = {
    "claims": "What was asked for, and what is there (medians over runs):",
    "table": "Hypervolume over the exhaustive front's at so many fine-tunings' worth, median (quartiles):",
    "regret": "Regret, 1 - hypervolume over the exhaustive front's, medians:",
    "beside": "Methods that were run, over the others of their task (medians):",
}
AT = (2, 4, 8, 16)  # fine-tunings' worth at which the curves are read
TRAINED, SCORED = 2 * 4887, 1500  # examples of STS-B: two epochs of 85 % of its training set, its validation set
LONGEST = 32.0  # work of fine-tuning every pattern once
METRICS = {"stsb": "spearman", "cola": "matthews", "mrpc": "accuracy", "rte": "accuracy"}
CONSTANT = {"stsb": 1.0, "cola": 1.0, "mrpc": 0.316, "rte": 0.473}  # error of a constant answer, validation set


# -- replay ------------------------------------------------------------------------------------------------------------


def stock_course(problem: Problem, sampler: BaseSampler) -> list[str]:
    """What plain Optuna asks for: nothing first, repeats paid for again; of no layers at all the first is kept."""
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    chosen: list[str] = []
    spent = 0.0
    while spent < LONGEST:
        trial = study.ask()
        kept = [layer for layer in range(LAYERS) if trial.suggest_categorical(f"keep_{layer}", [True, False])] or [0]
        chosen.append(str(Pattern.of_layers(kept)))
        study.tell(trial, problem.points[chosen[-1]])
        spent += len(kept) / LAYERS
    return chosen


def replays(problem: Problem, seeds: int, folder: Path) -> dict[str, list[list[str]]]:
    """The courses of every replayed method, a list of patterns a seed."""

    def ours(sampler: str, named: str) -> list[list[str]]:
        most = len(problem.points)
        return [course(problem, SAMPLERS[sampler], named, seed, folder, most) for seed in range(seeds)]

    def stock(make: Callable[..., BaseSampler]) -> list[list[str]]:
        return [stock_course(problem, make(seed=seed)) for seed in range(seeds)]

    return {
        "stock: OptunaSearch, TPE": stock(TPESampler),
        "stock: OptunaSearch, NSGA-II": stock(NSGAIISampler),
        "random, nothing twice": ours("random", "none"),
        "layersearch, each fine-tuned": ours("PatternSampler", "mixed"),
        "greedy (GLP)": [greedy(problem)],
        "best fixed strategy": [fixed(problem)],
    }


def replayed_steps(problem: Problem, chosen: Iterable[str], rate: Rate) -> list[Step]:
    """A candidate costs the layers that it keeps, over those that there are."""
    steps = []
    for text in chosen:
        error, share = problem.points[text]
        steps.append(Step(share, rate.of(LAYERS * share), text, error, error))
    return steps


def rates_of(file: Path) -> dict[str, Rate]:
    """By way (`stock`, `layersearch`): a straight line over layers through what STS-B would cost, from the timed parts.

    1 s a layer where nothing is known.
    """
    if not file.exists():
        return {"stock": Rate(0.0, 1.0), "layersearch": Rate(0.0, 1.0)}
    with file.open(newline="") as source:
        rows = list(csv.DictReader(source))
    found = {}
    for way in ("stock", "layersearch"):
        points = [(float(row["layers"]), _in_full(row)) for row in rows if row["way"] == way]
        slope, height = linear_regression(*zip(*points, strict=True))
        found[way] = Rate(height, slope)
    return found


def _in_full(row: Mapping[str, str]) -> float:
    prepare, train, score = (float(row[name]) for name in ("prepare_s", "train_s", "score_s"))
    return prepare + train * TRAINED / float(row["trained"]) + score * SCORED / float(row["scored"])


# -- all of it ---------------------------------------------------------------------------------------------------------


def table_of(task: str, folders: Sequence[Path]) -> Problem | None:
    """The table of a task, validation scores after its last epoch; None where no folder has one of every pattern."""
    for folder in folders:
        file = folder / f"minilm_l6_{task}_subsets.csv"
        if file.exists():
            with file.open(newline="") as source:
                columns = next(csv.reader(source))
            column = max((n for n in columns if n.startswith(f"{METRICS[task]}_epoch")), default="validation")
            table = read_table(file, column)
            if len(table.known) == 2**LAYERS - 1:
                return problem_of(f"minilm-{task}", table, CONSTANT[task])
    return None


def methods_of(folders: Sequence[Path], runs: Path, seeds: int) -> list[Method]:
    """Every method on every task that has a table or runs. Without a table the hypervolume is over nothing but 1."""
    rates = rates_of(HERE / "stock.csv")
    made = read_runs(runs)
    found: list[Method] = []
    for task in METRICS:
        problem, constant = table_of(task, folders), CONSTANT[task]
        whole = 1.0 if problem is None else hypervolume(problem.points.values(), (constant, 1.0))
        if problem is not None:
            with tempfile.TemporaryDirectory() as temp:
                courses = replays(problem, seeds, Path(temp))
                if (rungs := HERE / f"rungs_{task}.csv").exists():
                    climbing, rate = with_rungs(problem, rungs), rates["layersearch"]
                    ours = [halved(climbing, seed, Path(temp), rate) for seed in range(seeds)]
                    found.append(Method(task, HALVING, True, [curve_of(one, constant, whole) for one in ours]))
            for name, chosen in courses.items():
                rate = rates["stock" if name.startswith("stock") else "layersearch"]
                curves = [curve_of(replayed_steps(problem, one, rate), constant, whole) for one in chosen]
                found.append(Method(task, name, True, curves))
        for (its_task, name), rows in made.items():
            if its_task == task:
                seconds = rates["layersearch"].of(LAYERS)
                curves = [curve_of(steps_of(one, seconds), constant, whole) for one in rows]
                label = name if problem else f"{name} (no table: hypervolume itself)"
                found.append(Method(task, label, False, curves))
    return found


def spread(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = quartiles(values)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})" if len(values) > 1 else f"{middle:.2f}"


def record_of(method: Method) -> dict[str, Any]:
    """One line of the table: hypervolume at each cost and at the end, and what the end cost."""
    record: dict[str, Any] = {"task": method.task, "method": method.name}
    record |= {"scores": "replayed" if method.replayed else "run", "runs": len(method.curves)}
    for at in AT:
        record[f"at {at}"] = spread([at_costs(c.works, c.volumes, [at])[0] for c in method.curves])
    ends = [curve.volumes[-1] for curve in method.curves]
    return record | {
        "at the end": spread(ends),
        "worst run": round(min(ends), 2),
        "work": round(median(curve.works[-1] for curve in method.curves), 1),
        "minutes": round(median(curve.seconds[-1] for curve in method.curves) / 60),
    }


def regrets(method: Method) -> dict[str, Any]:
    """The part of the exhaustive front that is not there yet, medians; below 0 where more is."""
    found = {at: median(at_costs(c.works, c.volumes, [at])[0] for c in method.curves) for at in AT}
    return {"task": method.task, "method": method.name, **{f"at {at}": round(1 - v, 3) for at, v in found.items()}}


def against(method: Method, others: Sequence[Method]) -> list[dict[str, Any]]:
    """One method that was run beside each other one of its task."""
    found = []
    for other in others:
        if other.task == method.task and other is not method:
            end = median(c.volumes[-1] for c in method.curves) / median(c.volumes[-1] for c in other.curves)
            work = median(c.works[-1] for c in method.curves) / median(c.works[-1] for c in other.curves)
            since, times = above_from(method, other, "works"), times_as_much(method, other, "seconds")
            record = {"task": method.task, "method": method.name, "beside": other.name}
            record |= {"hypervolume, times": f"{end:.2f}", "work, times": f"{work:.2f}"}
            record |= {"never below from (work)": "-" if since is None else f"{since:.1f}"}
            found.append(
                record | {"time of the other for the best both reach": "-" if times is None else f"{times:.1f}"}
            )
    return found


def put(file: Path, text: str) -> None:
    """Put `text` between the two marks of `file`, in place of what stands there."""
    before, _, rest = file.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    file.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}")


def main() -> None:
    """Compare; write the tables (also into the README) and `curves.png`."""
    parser = argparse.ArgumentParser(description="Compare search methods at equal cost.")
    parser.add_argument("--measured", type=Path, nargs="+", required=True, help="folders with exhaustive tables")
    parser.add_argument("--runs", type=Path, default=HERE, help="folder with CSV files of runs")
    parser.add_argument("--seeds", type=int, default=20, help="of the replayed methods")
    words = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    methods = methods_of(words.measured, words.runs, words.seeds)
    run = [method for method in methods if not method.replayed]
    tables = {"claims": claims(methods), "table": [record_of(m) for m in methods]}
    tables |= {"regret": [regrets(m) for m in methods], "beside": [r for m in run for r in against(m, methods)]}
    written = []
    for name, title in TITLES.items():
        if tables[name]:
            write_csv(HERE / f"{name}.csv", tables[name])
            written.append(f"{title}\n\n{as_table(tables[name])}")
    text = "\n\n".join([*written, f"Drawn on {environment('optuna', 'numpy')}."])
    put(HERE / "README.md", text)
    print(text)
    draw(methods, HERE / "curves.png")


if __name__ == "__main__":
    main()
