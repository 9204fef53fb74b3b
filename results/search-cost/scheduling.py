"""What does a decision cost the driver, with a thousand and with ten thousand trials in the study?

A decision is `finish` and `next_job` of the program's own driver, on an SQLite file, scores from a formula: all that
happens between two candidates but their training. Every line of the table is measured in a process of its own, whose
largest memory is its own too. Run from the root of the repository:

    python -m results.search-cost.scheduling FOLDER [--decisions 60]

Knows: how to fill a study quickly, and what to time. Does not know: samplers, models.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.trial import TrialState

from layersearch.pattern import Pattern, thirds
from layersearch.search.driver import Driver
from layersearch.search.grouped import Held
from layersearch.search.purpose import Purpose
from layersearch.search.question import How
from layersearch.search.studies import opened
from layersearch.search.study import Study
from layersearch.search_space import SearchSpace
from layersearch.space_files import load
from layersearch.training.job import Job, Outcome
from results.machine import as_table, environment, write_csv

HERE = Path(__file__).parent
CASES = (
    # trials, space, layers, sampler, model libraries in memory as in a real run
    (100, "layers", 12, "PatternSampler", False),
    (1_000, "layers", 12, "PatternSampler", False),
    (1_000, "layers", 12, "NSGAIISampler", False),
    (1_000, "layers", 12, "TPESampler", False),
    (1_000, "halves", 12, "PatternSampler", False),
    (1_000, "halves", 24, "PatternSampler", False),
    (10_000, "halves", 12, "PatternSampler", True),
)


class Nobody:
    """A watcher that looks away."""

    def phase(self, study: Study, wanted: int) -> None: ...
    def started(self, job: Job) -> None: ...
    def progressed(self, number: int, share: float) -> None: ...
    def reused(self, count: int) -> None: ...
    def reached(self, outcome: Outcome, *, goes_on: bool) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...
    def say(self, line: str) -> None: ...


@dataclass(frozen=True)
class Formula:
    """A question whose answers are computed: more layers score higher, the lower ones more."""

    space: SearchSpace
    num_layers: int
    sampler: str
    seed: int = 0
    halving: None = None
    costs: None = None

    @property
    def purpose(self) -> Purpose:
        """Of no use to another study."""
        return Purpose({"space": self.space.canonical(), "sampler": self.sampler}, "score", "maximize")

    @property
    def facts(self) -> Mapping[str, Any]:
        """What reports need."""
        return {"num_layers": self.num_layers, "parameters": 3 * self.num_layers}

    def parameters_of(self, pattern: Pattern) -> int:
        """Counted in thirds of a layer."""
        return thirds(pattern.blocks)

    def evaluate(self, job: Job) -> Outcome:
        """At once."""
        pattern = Pattern.parse(job.pattern)
        score = 1 - 1 / (1 + sum(1 / (1 + block.layer) for block in pattern.blocks))
        return Outcome(
            job.number,
            job.pattern,
            job.seed,
            score=score,
            metrics={"score": score},
            interval=(score - 0.01, score + 0.01),
            parameters=thirds(pattern.blocks),
            versions="layersearch 0.1.0, torch 2.13.0, transformers 5.23.0",
            precision="bf16",
        )


def fill(study: Study, question: Formula, trials: int) -> None:
    """Put `trials` finished ones into the study, with the attributes that real ones have."""
    storage: Any = study._study._storage
    backend = storage._backend
    rng = random.Random(1)
    seen: set[str] = set()
    while len(seen) < trials:
        pattern = question.space.sample(question.num_layers, rng)
        if str(pattern) in seen:
            continue
        seen.add(str(pattern))
        outcome = question.evaluate(Job(0, str(pattern), 0))
        trial_id = storage.create_new_trial(study._study._study_id)
        attrs = {"pattern": str(pattern), "seed": 0, "driver": study._lease.owner, "metrics": dict(outcome.metrics)}
        attrs |= {"interval": outcome.interval, "seconds": 1.0, "train_seconds": 0.9, "score_seconds": 0.1}
        attrs |= {"examples": 1000, "precision": outcome.precision, "versions": outcome.versions}
        params = question.space.params_of(pattern, question.num_layers) or {}
        choices = CategoricalDistribution(question.space.choices)
        rows = [
            {"trial_id": trial_id, "param_name": name, "param_value": choices.to_internal_repr(choice)}
            for name, choice in params.items()
        ]
        text = distribution_to_json(choices)
        values = {n: {"trial_id": trial_id, "key": n, "value_json": json.dumps(v)} for n, v in attrs.items()}
        held = Held([{**row, "distribution_json": text} for row in rows], values, TrialState.COMPLETE)
        held.values = [outcome.score or 0.0, float(outcome.parameters or 0)]
        backend.write_trial(trial_id, held)


def measure(folder: Path, case: tuple[int, str, int, str, bool], decisions: int) -> dict[str, Any]:
    """One line of the table, in this process."""
    trials, space, layers, sampler, libraries = case
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if libraries:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    question = Formula(load(space), layers, sampler)
    how = How("s", str(folder / "s.db"), folder / "files", workers=0)
    began = time.perf_counter()
    with opened(question, how, Nobody()) as studies:
        start = time.perf_counter() - began
        driver = Driver(study=studies.search, trials=10**9, watcher=Nobody())
        for _ in range(4):  # imports, and what is made once
            driver.finish(question.evaluate(next_of(driver)))
        walls, processor = [], time.process_time()
        job = next_of(driver)
        for _ in range(decisions):
            outcome = question.evaluate(job)
            began = time.perf_counter()
            driver.finish(outcome)
            job = next_of(driver)
            walls.append(1000 * (time.perf_counter() - began))
        processor = 1000 * (time.process_time() - processor) / decisions
    return {
        "trials": trials,
        "space": f"{space}, {layers} layers",
        "sampler": sampler,
        "median ms": round(median(walls), 1),
        "p95 ms": round(quantiles(walls, n=20)[-1], 1),
        "processor ms": round(processor, 1),
        "start s": round(start, 1),
        "memory MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "with torch": "yes" if libraries else "",
    }


def next_of(driver: Driver) -> Job:
    """The next job; there always is one."""
    job = driver.next_job()
    assert job is not None
    return job


def made(folder: Path, case: tuple[int, str, int, str, bool]) -> None:
    """Fill the study of a case, in this process."""
    trials, space, layers, sampler, _ = case
    question = Formula(load(space), layers, sampler)
    with opened(question, How("s", str(folder / "s.db"), folder / "files", workers=0), Nobody()) as studies:
        fill(studies.search, question, trials)


def commit_ms(folder: Path) -> float:
    """What it costs here to bring a page to the disk; a decision waits for four of them."""
    times = []
    with (folder / "page").open("wb") as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(1000 * (time.perf_counter() - began))
    return median(times)


def main() -> None:
    """Measure every case, each part in a process of its own."""
    parser = argparse.ArgumentParser(description="Time the decisions of the driver.")
    parser.add_argument("folder", type=Path, help="where the databases are made")
    parser.add_argument("--decisions", type=int, default=60)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.case is not None:
        if words.fill:
            made(words.folder, CASES[words.case])
        else:
            print(json.dumps(measure(words.folder, CASES[words.case], words.decisions)))
        return
    records = []
    for number in range(len(CASES)):
        with TemporaryDirectory(dir=words.folder) as temp:
            command = [sys.executable, "-m", "results.search-cost.scheduling", temp, "--case", str(number)]
            subprocess.run([*command, "--fill"], check=True)
            command += ["--decisions", str(words.decisions)]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        records.append(json.loads(said.splitlines()[-1]))
        print(records[-1], flush=True)
    write_csv(HERE / "scheduling.csv", records)
    print(environment("optuna", "SQLAlchemy", "numpy"))
    print(f"a page to the disk: {commit_ms(words.folder):.2f} ms")
    print(as_table(records))


if __name__ == "__main__":
    main()
