"""Which sampler finds a front with the fewest fine-tunings? Answered by replay: tables of known scores, no training.

Every sampler drives the program's own `Study` (no pattern twice, named strategies in turn) with Optuna's storage in
memory. Summary, tables and figure are made from one file of runs, which grows while this works and is taken up where it
was left. Run from the root of the repository; TABLES is the folder that holds `measured/` and `published/`:

    python -m results.search-cost.samplers TABLES --runs FILE.csv [--seeds 100]

Knows: the tables, the methods, what is reported. Does not know: how a sampler works.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler

from layersearch.pattern import Pattern
from layersearch.search.lease import Lease
from layersearch.search.quality import Point, error_of, hypervolume, layer_share
from layersearch.search.replay import Replay, replay_of
from layersearch.search.sampler_pattern import PatternSampler
from layersearch.search.scores import Table, read_table
from layersearch.search.study import Study
from layersearch.strategies import STRATEGIES, possible, spell
from results.machine import as_table, environment, write_csv

from .curves import draw_samplers
from .volumes import growth, regret
from .within import Within

HERE = Path(__file__).parent
AT = (4, 8, 12, 16, 24)  # evaluations at which curves are read
MOST = AT[-1]

MODELS = {"minilm": "MiniLM, 6 layers, STS-B", "bert": "BERT-base, 12 layers, 7 tasks"}

# Error of a constant answer in the published scores: none correlates, the others answer the commonest class.
CONSTANT = {"cola": 1.0, "stsb": 1.0, "mrpc": 0.188, "rte": 0.473, "sst2": 0.491, "qnli": 0.495, "mnli": 0.646}


class Memory(optuna.storages.InMemoryStorage):
    """Optuna's storage in memory, with what `Study` asks of ours."""

    def together(self) -> AbstractContextManager[None]:
        """Nothing is slow here."""
        return nullcontext()


class Unheld(Lease):
    """A lease on a study that nobody else can see."""

    alone = False  # so that the storage is used as it is

    def turn(self, study: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """At once."""
        return nullcontext()

    def renew(self) -> bool:
        """Never lost."""
        return True


@dataclass(frozen=True)
class Problem:
    """A table to search in; `points` (error, share of layer parameters) are by pattern."""

    name: str
    table: Table
    points: dict[str, Point]
    references: dict[str, Point]

    @property
    def model(self) -> str:
        """The line of `MODELS` that it belongs to."""
        return MODELS[self.name.split("-")[0]]


def problem_of(name: str, table: Table, constant: float) -> Problem:
    """Two references: `constant`, the error of a constant answer, and the worst pattern's, which every other has."""
    points = {
        text: (error_of(known.score, table.direction), layer_share(Pattern.parse(text), table.num_layers))
        for text, known in table.known.items()
    }
    worst = max(error for error, _ in points.values())
    return Problem(name, table, points, {"constant": (constant, 1.0), "worst": (worst, 1.0)})


def problems(folder: Path) -> list[Problem]:
    """MiniLM on STS-B, every subset of six layers after two epochs; BERT-base on seven tasks."""
    measured = folder / "measured" / "minilm_l6_stsb_subsets.csv"
    published = folder / "published" / "layer_subsets_bert.csv"
    found = [problem_of("minilm-stsb", read_table(measured, "spearman_epoch2"), 1.0)]
    for task, constant in CONSTANT.items():
        table = read_table(published, "score", {"task": task, "scored_on": "validation"})
        found.append(problem_of(f"bert-{task}", table, constant))
    return found


Make = Callable[[Replay, int], BaseSampler]


def optunas(kind: type[BaseSampler], **options: object) -> Make:
    """One of Optuna's samplers."""

    def make(replay: Replay, seed: int) -> BaseSampler:
        return Within(kind(seed=seed, **options), replay.space, replay.num_layers)

    return make


SAMPLERS: dict[str, Make] = {
    "random": lambda _, seed: RandomSampler(seed=seed),  # as it is: the study draws evenly where it misses the table
    "TPE, multivariate": optunas(TPESampler, multivariate=True),
    "NSGA-II, population 50": optunas(NSGAIISampler),
    "NSGA-II, population 10": optunas(NSGAIISampler, population_size=10),
    "NSGA-III, population 10": optunas(NSGAIIISampler, population_size=10),
    "PatternSampler": lambda replay, seed: PatternSampler(replay.space, replay.num_layers, seed),
    "GP": optunas(GPSampler),
}
SLOW = ("GP",)  # a hundred times slower than the others
# When the named strategies are tried: as the study does, before all else, never.
NAMED = dict.fromkeys(SAMPLERS, ("mixed", "none")) | {"PatternSampler": ("mixed", "first", "none"), "GP": ("mixed",)}


def course(
    problem: Problem, make: Make, named: str, seed: int, folder: Path, most: int = MOST, *, screened: bool = False
) -> list[str]:
    """The first `most` patterns that a study evaluates, in order; `screened` as a run does it (`search/screen.py`)."""
    replay = replay_of(problem.table, "layers", "RandomSampler", seed)
    layers = replay.num_layers
    space = replay.space.model_copy(update={"start": ()}) if named == "none" else replay.space
    study = Study(
        Memory(),
        "s",
        replay.purpose,
        Unheld("replay"),
        folder,
        num_layers=layers,
        space=space,
        sampler="RandomSampler",
        seed=seed,
        parameters=replay.parameters if screened else None,
    )
    study._study.sampler = make(replay, seed)
    study._random.seed(seed)  # as it is for a driver that is alone
    for pattern in space.start_points(layers) if named == "first" else ():
        study._queue(space.params_of(pattern, layers) or {})
    chosen: list[str] = []
    while len(chosen) < most and (job := study.ask()) is not None:
        study.tell(replay.evaluate(job))
        chosen.append(job.pattern)
    return chosen


def greedy(problem: Problem) -> list[str]:
    """Greedy-layer pruning (Peer et al., arXiv 2105.14839): from the best of a size, each layer dropped in turn."""
    known, layers = problem.table.known, problem.table.num_layers
    kept, chosen = tuple(range(layers)), [str(Pattern.full(layers))]
    while len(kept) > 1:
        smaller = [tuple(layer for layer in kept if layer != gone) for gone in kept]
        texts = {str(Pattern.of_layers(layers_kept)): layers_kept for layers_kept in smaller}
        there = [text for text in texts if text in known]
        if not there:
            break
        chosen += there
        kept = texts[max(there, key=lambda text: known[text].score)]
    return [text for text in chosen if text in known][:MOST]


def fixed(problem: Problem) -> list[str]:
    """The unchanged model and the patterns of the named strategy that, looking back, found most, by rising k."""
    layers = problem.table.num_layers
    full = str(Pattern.full(layers))
    courses = [
        [
            text
            for text in (full, *(str(spell(name, layers, k)) for k in possible(name, layers)))
            if text in problem.points
        ]
        for name in STRATEGIES
    ]
    return max(
        courses, key=lambda texts: hypervolume((problem.points[text] for text in texts), problem.references["worst"])
    )


WITHOUT_CHANCE = {"greedy": greedy, "best fixed strategy": fixed}


def runs(found: list[Problem], seeds: int) -> Iterator[tuple[Problem, str, str, int]]:
    """Every run there is to make: problem, sampler, when named, seed; a round of seeds before the next, the slow last.

    Each model gets `seeds` runs or a few more, evenly over its tasks.
    """
    yield from ((problem, name, "", 0) for problem in found for name in WITHOUT_CHANCE)
    for slow in (False, True):
        for seed in range(seeds):
            for problem in found:
                if seed >= math.ceil(seeds / sum(other.model == problem.model for other in found)):
                    continue
                for name in SAMPLERS:
                    if (name in SLOW) == slow:
                        yield from ((problem, name, named, seed) for named in NAMED[name])


def read_at(problem: Problem, chosen: list[str]) -> dict[str, float]:
    """The share of the whole table's hypervolume after so many evaluations, by either reference."""
    values: dict[str, float] = {}
    for kind, reference in problem.references.items():
        whole = growth(list(problem.points.values()), reference)[-1]
        volumes = growth([problem.points[text] for text in chosen], reference)
        left = regret(volumes, whole)
        values |= {f"{kind}_{at}": round(1 - left[min(at, len(left)) - 1], 5) for at in AT}
    return values


def work(folder: Path, file: Path, seeds: int) -> None:
    """Make every run that `file` does not hold yet."""
    done = set()
    if file.exists():
        with file.open() as source:
            done = {
                tuple(row[key] for key in ("problem", "sampler", "named", "seed")) for row in csv.DictReader(source)
            }
    fast = Path("/dev/shm")
    with file.open("a", newline="") as target, tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as temp:
        writer = None
        for problem, name, named, seed in runs(problems(folder), seeds):
            if (problem.name, name, named, str(seed)) in done:
                continue
            if name in WITHOUT_CHANCE:
                chosen = WITHOUT_CHANCE[name](problem)
            else:
                chosen = course(problem, SAMPLERS[name], named, seed, Path(temp))
            row = {"problem": problem.name, "sampler": name, "named": named, "seed": seed, **read_at(problem, chosen)}
            if writer is None:
                writer = csv.DictWriter(target, fieldnames=list(row), lineterminator="\n")
                if not done:
                    writer.writeheader()
            writer.writerow(row)
            target.flush()


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile; one value is all three."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return low, middle, high


def group_of(row: dict[str, str]) -> tuple[str, str, str]:
    """The line of the tables that a run belongs to."""
    return MODELS[row["problem"].split("-")[0]], row["sampler"], row["named"]


def summarised(file: Path) -> list[dict[str, Any]]:
    """Quartiles of the regret over problems and seeds by model, sampler, order, reference and number of evaluations."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    with file.open() as source:
        for row in csv.DictReader(source):
            groups.setdefault(group_of(row), []).append(row)
    records = []
    for (model, sampler, named), rows in groups.items():
        for kind in ("constant", "worst"):
            for at in AT:
                low, middle, high = quartiles([1 - float(r[f"{kind}_{at}"]) for r in rows])
                about = {"model": model, "sampler": sampler, "named": named, "reference": kind, "evaluations": at}
                about |= {"seeds": len({row["seed"] for row in rows}), "runs": len(rows)}
                found = {"quarter": round(low, 4), "median": round(middle, 4), "three_quarters": round(high, 4)}
                records.append({**about, **found})
    return records


def table(records: list[dict[str, Any]], model: str, reference: str) -> str:
    """Medians (and quartiles) of the regret on one model, a line a sampler and order."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        if (record["model"], record["reference"]) == (model, reference):
            line = lines.setdefault((record["sampler"], record["named"]), {"runs": record["runs"]})
            spread = f"{record['quarter']:.2f}-{record['three_quarters']:.2f}"
            line[f"after {record['evaluations']}"] = f"{record['median']:.3f} ({spread})"
    return as_table([{"sampler": name, "named": named, **line} for (name, named), line in lines.items()])


def main() -> None:
    """Make the runs that are missing, then tables and figure."""
    parser = argparse.ArgumentParser(description="Compare samplers by replay.")
    parser.add_argument("tables", type=Path, help="folder that holds measured/ and published/")
    parser.add_argument("--runs", type=Path, required=True, help="CSV file of runs, made or continued")
    parser.add_argument("--seeds", type=int, default=100)
    words = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    work(words.tables, words.runs, words.seeds)
    records = summarised(words.runs)
    write_csv(HERE / "samplers.csv", records)
    draw_samplers(records, MODELS.values(), HERE / "samplers.png")
    print(environment("optuna", "numpy", "scipy"))
    for model in MODELS.values():
        for reference in ("constant", "worst"):
            print(f"\n{model}, reference: {reference}\n\n{table(records, model, reference)}")


if __name__ == "__main__":
    main()
