"""What a model costs when it runs: time, memory, energy, each on the hardware that is there.

Knows: how to time forward passes fairly, which bytes are alive during one, where a machine tells its energy. Does not
know: patterns that are worth it, studies, training. Nothing else may run beside a measurement: that is the caller's.
"""

from __future__ import annotations

import platform
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from layersearch.errors import ModelError

WARM_UP = 3  # runs before the clock starts
FEWEST, MOST = 10, 200  # timed runs each, as many as fit into
SECONDS = 8.0  # for all that are timed together
ENERGY_SECONDS = 3.0  # of runs whose energy is read; counters tick every millisecond, power is a mean over much longer

Run = Callable[[], object]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Timing:
    """Nanoseconds of a forward pass over one batch: the median, and what 95 % of the runs keep below; turn by turn."""

    median: int
    p95: int
    turns: tuple[int, ...] = ()


def hardware(device: str) -> str:
    """What the numbers belong to: the GPU's name, or the processor's and the threads that torch uses."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(named, platform.machine())}, {torch.get_num_threads()} threads"


def inputs_of(model: PreTrainedModel, batch: int, length: int) -> dict[str, torch.Tensor]:
    """A batch of random sequences of `length` tokens without padding, or of images, on the model's device."""
    config = model.config
    if model.main_input_name == "pixel_values":
        side = int(config.image_size)
        return {"pixel_values": torch.zeros(batch, int(config.num_channels), side, side, device=model.device)}
    drawn = torch.randint(int(config.vocab_size), (batch, length), generator=torch.Generator().manual_seed(0))
    if config.is_encoder_decoder:  # such a model classifies at the end of a sequence, and finds just one
        drawn[drawn == config.eos_token_id] = 0
        drawn[:, -1] = config.eos_token_id
    return {"input_ids": drawn.to(model.device), "attention_mask": torch.ones_like(drawn, device=model.device)}


def timed(runs: Mapping[Key, Run], device: str, seconds: float | None = None) -> dict[Key, Timing]:
    """The time of each of `runs`, warmed up and taking turns, so that a slow moment of the machine meets all alike.

    They take `seconds` together, SECONDS without; more where the fewest turns need it.
    """
    found: dict[Key, list[int]] = {key: [] for key in runs}
    enough = SECONDS if seconds is None else seconds
    with torch.inference_mode():
        for run in runs.values():
            for _ in range(WARM_UP):
                run()
        began = time.perf_counter()
        for turn in range(MOST):
            if turn >= FEWEST and time.perf_counter() - began > enough:
                break
            for key, run in runs.items():
                found[key].append(_once(run, device))
    return {
        key: Timing(int(np.median(times)), int(np.quantile(times, 0.95)), tuple(times)) for key, times in found.items()
    }


def share_of(here: Timing, there: Timing) -> tuple[float, float]:
    """The 95 % interval of the median share that `here` takes of `there`, turn by turn of one measurement.

    By order statistics (Thompson 1936, as in Hollander and Wolfe, "Nonparametric Statistical Methods", 3.6), so that a
    few slow moments do not count; of fewer than six turns all of them, which is less than 95 %.
    """
    from scipy.stats import binom

    shares = sorted(one / other for one, other in zip(here.turns, there.turns, strict=True))
    outside = max(0, int(binom.ppf(0.025, len(shares), 0.5)) - 1)
    return shares[outside], shares[len(shares) - 1 - outside]


def _once(run: Run, device: str) -> int:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter_ns()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter_ns() - began


def activation_bytes(run: Run, device: str) -> int:
    """The most bytes that one forward pass holds beside the weights."""
    with torch.inference_mode():
        if device == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            run()
            return int(torch.cuda.max_memory_allocated() - before)
        with _Alive() as alive:
            run()
        return int(alive.most)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations make, as long as somebody holds them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._held: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage() for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)}
        for tensor in tree_leaves(answer):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in given | set(self._held):
                self._take(tensor.untyped_storage())
        return answer

    def _take(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._held.add(storage)
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._give_back, size)

    def _give_back(self, size: int) -> None:
        self._now -= size


def joules(run: Run, device: str, powercap: Path = Path("/sys/class/powercap")) -> float:
    """The energy of one run, from the processor's counters (RAPL) or the GPU's power (NVML).

    Raises ModelError where the machine tells neither.
    """
    with torch.inference_mode():
        run()
        return _gpu_joules(run) if device == "cuda" else _processor_joules(run, powercap)


def _processor_joules(run: Run, powercap: Path) -> float:
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    try:
        before = [_counter(zone) for zone in zones]
    except OSError as error:
        raise ModelError(
            f"energy cannot be measured: {error.filename} cannot be read; only root may, on most "
            "machines: run as root, or choose another objective"
        ) from None
    if not zones:
        raise ModelError(
            f"energy cannot be measured: this machine has no RAPL counters under {powercap}; choose another objective"
        )
    runs, began = 0, time.perf_counter()
    while runs == 0 or time.perf_counter() - began < ENERGY_SECONDS:
        run()
        runs += 1
    used = 0
    for zone, start in zip(zones, before, strict=True):
        end = _counter(zone)
        used += end - start if end >= start else end - start + int((zone / "max_energy_range_uj").read_text())
    return used / 1e6 / runs


def _counter(zone: Path) -> int:
    return int((zone / "energy_uj").read_text())


def _gpu_joules(run: Run) -> float:
    try:
        torch.cuda.power_draw()
    except (ModuleNotFoundError, RuntimeError) as error:
        raise ModelError(
            f"energy cannot be measured: the GPU's power is not to be had ({error}); install nvidia-ml-py, or choose "
            "another objective"
        ) from None
    watts, runs, began = [], 0, time.perf_counter()
    while runs == 0 or time.perf_counter() - began < ENERGY_SECONDS:
        run()
        torch.cuda.synchronize()
        watts.append(torch.cuda.power_draw() / 1000)
        runs += 1
    return float(np.mean(watts)) * (time.perf_counter() - began) / runs
