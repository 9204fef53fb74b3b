"""How many examples a second does one GPU train and score, and how much of its arithmetic is that?

A classifier of RoBERTa-base's shape with random weights, synthetic tokens of MRPC's lengths, bf16. Ways: `Trainer`, our
loop, our loop in several processes on the GPU at once, and our loop over compiled layers. Every way and repeat gets
processes of its own, spawned, which start together; ways are interleaved (A B C A B C ...). Nothing is scored for
quality. Run from the root of the repository, with the GPU's bf16 peak in TFLOP/s (dense), for example on an H200:

    python -m results.throughput.gpu --peak 989

Knows: models, clocks, processes. Does not know: studies, Ray, tasks.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Barrier, BrokenBarrierError
from typing import Any, cast

import numpy as np
import torch
import transformers
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    RobertaConfig,
    RobertaForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from layersearch.errors import LayersearchError
from layersearch.models.surgery import build, layers_of
from layersearch.pattern import Pattern
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import SCORING_BATCH, finetune, predict
from layersearch.training.recipe import Recipe
from results.machine import as_table, environment, write_csv
from results.throughput.run import rows_of

LENGTHS = (53.4, 13.0, 19, 103)  # MRPC's training pairs in BERT's tokens: mean, standard deviation, least, most
RECIPE = Recipe(epochs=1, precision="bf16")
Work = Callable[[], object]
Way = Callable[[PreTrainedModel, Encoded], tuple[Work, Work]]  # what trains the candidate, what scores with it


@dataclass(frozen=True)
class Question:
    """What every process is given: the unchanged model's shape, the data, and where."""

    layers: int
    hidden: int
    examples: int
    device: str

    def base(self) -> PreTrainedModel:
        """The unchanged model: random weights of seed 0, fp32, SDPA attention."""
        torch.manual_seed(0)
        config = RobertaConfig(
            num_hidden_layers=self.layers,
            hidden_size=self.hidden,
            num_attention_heads=max(1, self.hidden // 64),
            intermediate_size=4 * self.hidden,
        )
        model: Any = RobertaForSequenceClassification(config)
        return cast(PreTrainedModel, model.to(self.device))

    def data(self) -> Encoded:
        """Random tokens and labels; they are trained on and scored alike."""
        rng, (mean, deviation, least, most) = np.random.default_rng(0), LENGTHS
        lengths = rng.normal(mean, deviation, self.examples).round().clip(least, most).astype(np.int64)
        offsets = np.concatenate([[0], lengths.cumsum()])
        ids = rng.integers(3, RobertaConfig().vocab_size, offsets[-1], dtype=np.int32)  # 0 to 2 are special
        return Encoded(ids, None, offsets, rng.integers(0, 2, self.examples))


@dataclass(frozen=True)
class Pass:
    """Seconds until the last process is done: training, and scoring, one candidate in each process."""

    train: float
    score: float


@dataclass(frozen=True)
class Line:
    """One way in one repeat; `said` is why there are no figures.

    Rates are of the second pass, over all processes. `first_more_s` is what the first pass took beyond the second,
    with another candidate of the same depth; `fewer_more_s` the same for a third and fourth of half the depth.
    """

    way: str
    processes: int
    repeat: int
    train_examples_a_s: float | None = None
    score_examples_a_s: float | None = None
    train_tflops: float | None = None
    score_tflops: float | None = None
    train_utilisation: float | None = None
    score_utilisation: float | None = None
    first_more_s: float | None = None
    fewer_more_s: float | None = None
    said: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak", type=float, default=None, help="TFLOP/s in dense bf16; no utilisation without it")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--examples", type=int, default=1024, help="to train on and to score, for every process")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4, 8], help="of our loop, at once")
    parser.add_argument("--compiled", type=int, nargs="*", default=[1, 4], help="processes over compiled layers")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "gpu.csv")
    args = parser.parse_args()
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # Trainer would take all
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU that CUDA can use is here; --device cpu tries the script on the processor")
    question = Question(args.layers, args.hidden, args.examples, args.device)
    groups = [*product(STOCK, [1]), *product([OURS], args.processes), *product([COMPILED], args.compiled)]
    lines: list[Line] = []
    for repeat in range(args.repeats):
        for way, processes in groups:
            lines.append(measured(way, processes, repeat, question, args.peak))
            write_csv(args.out, [asdict(line) for line in lines])
            print(f"{way}, {processes} process(es), repeat {repeat}: {lines[-1].said or 'done'}", flush=True)
    print(environment("torch", "transformers", "accelerate", "numpy"), as_table(medians(lines)), sep="\n\n")
    print(f"\n{_device(args.device)}; {question}, {args.repeats} interleaved repeats")
    print(f"utilisation: share of {args.peak:g} TFLOP/s" if args.peak else "no --peak was given: no utilisation")


# -- one way, in processes of its own ----------------------------------------------------------------------------------


def measured(way: str, processes: int, repeat: int, question: Question, peak: float | None) -> Line:
    """`way` in so many processes at once; what goes wrong in one of them is said in the line."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = scratch  # so that nothing was compiled before
        try:
            first, second, third, fourth = together(way, processes, question)
        except RuntimeError as error:
            return Line(way, processes, repeat, said=str(error))
    line = Line(
        way,
        processes,
        repeat,
        first_more_s=round(first.train + first.score - second.train - second.score, 2),
        fewer_more_s=round(third.train + third.score - fourth.train - fourth.score, 2),
    )
    return replace(line, **rates(second, processes, question, peak))


def together(way: str, processes: int, question: Question) -> list[Pass]:
    """The passes of the slowest of the processes. Raises RuntimeError when one of them fails or dies."""
    context = get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _hold, (barrier,)) as pool:
        futures = [pool.submit(passes, way, question) for _ in range(processes)]
        wait(futures)
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, BrokenBarrierError)), errors[0])
    answers = zip(*(future.result() for future in futures), strict=True)
    return [Pass(max(p.train for p in same), max(p.score for p in same)) for same in answers]


def _hold(barrier: Barrier) -> None:
    """Keep what only a process's start can hand over, and be quiet."""
    global _start
    _start = barrier
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


_start: Barrier


def passes(way: str, question: Question) -> list[Pass]:
    """In a process: two candidates of full depth and two of half, one after the other.

    Raises RuntimeError with one line when a way cannot run here; the other processes then do not wait for this one.
    """
    whole, half = Pattern.full(question.layers), Pattern.full(max(1, question.layers // 2))
    with ExitStack() as unless_done:
        unless_done.callback(_start.abort)
        try:
            base, data = question.base(), question.data()
            found = [one_pass(way, build(base, pattern), data) for pattern in (whole, whole, half, half)]
        except BrokenBarrierError:
            raise
        except (RuntimeError, LayersearchError) as error:  # the compiler's own errors cannot be pickled
            reason = next(iter(str(error).strip().splitlines()), "")
            raise RuntimeError(f"{type(error).__name__}: {reason}") from None
        unless_done.pop_all()
    return found


def one_pass(way: str, candidate: PreTrainedModel, data: Encoded) -> Pass:
    """Train and score `candidate`, each begun together with the other processes and timed until all are done."""
    train, score = WAYS[way](candidate, data)
    return Pass(_timed(train, candidate.device), _timed(score, candidate.device))


def _timed(work: Work, device: torch.device) -> float:
    _start.wait()
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    _start.wait()
    return time.perf_counter() - began


# -- the ways ----------------------------------------------------------------------------------------------------------


def by_layersearch(model: PreTrainedModel, data: Encoded) -> tuple[Work, Work]:
    """What every trial of a search does."""
    trained = partial(finetune, model, "classification", RECIPE, data)
    return trained, partial(predict, model, "classification", data, "bf16")


def by_layersearch_compiled(model: PreTrainedModel, data: Encoded) -> tuple[Work, Work]:
    """The same over compiled layers: layers have the same code, so that one graph serves all, of all candidates."""
    for layer in layers_of(model):
        layer.compile(dynamic=True)
    return by_layersearch(model, data)


def by_trainer(model: PreTrainedModel, data: Encoded, **options: Any) -> tuple[Work, Work]:
    """`Trainer` in bf16 with its default arguments but for `options`, and nothing reported or saved."""
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),
        num_train_epochs=1,
        bf16=True,
        use_cpu=model.device.type == "cpu",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **options,
    )
    rows = rows_of(data)
    trainer = Trainer(model, arguments, partial(padded, pad=int(model.config.pad_token_id or 0)), rows)
    trainer.remove_callback(PrinterCallback)
    return trainer.train, partial(trainer.predict, rows)


def padded(rows: Sequence[Mapping[str, Any]], pad: int) -> dict[str, torch.Tensor]:
    """A batch of `rows` as int64 tensors [batch, longest], and the labels [batch]."""
    longest = max(len(row["input_ids"]) for row in rows)
    fills = {"input_ids": pad, "attention_mask": 0}
    batch = {
        name: torch.tensor([list(row[name]) + [fill] * (longest - len(row[name])) for row in rows])
        for name, fill in fills.items()
    }
    return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}


STOCK = ("Trainer, bf16 (batch 8)", "Trainer, bf16, by length, batch 32")
OURS = "layersearch"
COMPILED = "layersearch, compiled layers"
WAYS: dict[str, Way] = {
    STOCK[0]: by_trainer,
    STOCK[1]: partial(
        by_trainer,
        train_sampling_strategy="group_by_length",
        per_device_train_batch_size=RECIPE.batch_size,
        per_device_eval_batch_size=SCORING_BATCH,
    ),
    OURS: by_layersearch,
    COMPILED: by_layersearch_compiled,
}


# -- figures -----------------------------------------------------------------------------------------------------------


@cache
def forward_flops(question: Question) -> float:
    """Of one pass over the data, without padding, embeddings and head: 2 a parameter and token, and attention's."""
    weights = sum(p.numel() for p in layers_of(replace(question, device="cpu").base()).parameters())
    lengths = question.data().lengths.astype(np.float64)
    return float(2 * weights * lengths.sum() + 4 * question.layers * question.hidden * (lengths**2).sum())


def rates(spent: Pass, processes: int, question: Question, peak: float | None) -> dict[str, Any]:
    """Examples a second, TFLOP/s and their share of `peak`, over all processes; backward is twice forward."""
    found: dict[str, Any] = {}
    for verb, seconds, passed in (("train", spent.train, 3), ("score", spent.score, 1)):
        tflops = processes * passed * forward_flops(question) / seconds / 1e12
        found[f"{verb}_examples_a_s"] = round(processes * question.examples / seconds, 1)
        found[f"{verb}_tflops"] = float(f"{tflops:.3g}")
        found[f"{verb}_utilisation"] = None if peak is None else float(f"{tflops / peak:.3g}")
    return found


def medians(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """One row a way and number of processes: medians over the repeats that gave figures."""
    rows: list[dict[str, Any]] = []
    for key in dict.fromkeys((line.way, line.processes) for line in lines):
        same = [asdict(line) for line in lines if (line.way, line.processes) == key]
        row: dict[str, Any] = {"way": key[0], "processes": key[1]}
        for name in list(same[0])[3:-1]:
            values = [line[name] for line in same if line[name] is not None]
            row[name] = float(f"{median(values):.3g}") if values else ""
        rows.append({**row, "said": next((line["said"] for line in same if line["said"]), "")})
    return rows


def _device(device: str) -> str:
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if device == "cuda" else "on the processor"


if __name__ == "__main__":
    main()
