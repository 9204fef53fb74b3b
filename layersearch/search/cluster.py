"""Ray from start to end: a local cluster of this run's own (or a given one), one Tune run, nothing left behind.

Knows: Ray's resources, environment and folders. Does not know: Optuna, SQL, what a job is.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib  # type: ignore[import-untyped]
import psutil

from layersearch.errors import LayersearchError
from layersearch.search.driver import Driver
from layersearch.training.evaluator import Evaluator

if TYPE_CHECKING:
    from layersearch.search.question import How

# What Ray and the libraries in its workers shall do: report to nobody, ask no hub, keep no state, log nothing to files.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
THREADS = "OMP_NUM_THREADS"
SCRATCH = "ls-"  # Ray's temporary folder of process 123 is ls-123-..., short for its sockets' sake
WORKER_BYTES = 1_000_000_000  # a process with torch and transformers loaded, and its activations

ANSWER_SECONDS = 10.0  # in which somebody has to listen at the address of a running cluster


def run_with_ray(driver: Driver, evaluator: Evaluator, how: How) -> None:
    """Work the driver off with Ray Tune. Raises what the driver raised; a stop that was asked for returns normally."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with _environment(), _ray(evaluator, how) as (workers, resources, threads, scratch):
        for number, handler in handlers.items():  # ray.init puts its own in their place
            signal.signal(number, handler)
        _tune(driver, evaluator, how, workers, resources, threads, scratch)


def _tune(
    driver: Driver,
    evaluator: Evaluator,
    how: How,
    workers: int,
    resources: dict[str, float],
    threads: int,
    scratch: Path,
) -> None:
    import ray
    from ray import tune

    from layersearch.search.scheduler import RungScheduler
    from layersearch.search.searcher import LayerSearcher, StopWhenAsked
    from layersearch.search.worker import Shared, Worker

    stalls = how.folder / "stalls"
    parts = {**vars(evaluator), "base": evaluator.base.arrays()}
    shared = Shared((ray.put(parts),), threads, str(stalls), how.stall_seconds)
    searcher = LayerSearcher(driver, workers, stalls, how.stall_seconds)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(Worker, shared=shared), resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=RungScheduler(searcher),
            num_samples=-1,
            reuse_actors=True,
            max_concurrent_trials=workers,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch / "tune"),
            stop=StopWhenAsked(searcher),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what fails is told by the driver, in a line
    try:
        tuner.fit()
    finally:
        searcher.ended.set()
        driver.abandon("stopped before it was finished")
    if searcher.error is not None:
        raise searcher.error


@contextmanager
def _environment() -> Iterator[None]:
    """What Ray and its workers read, while they run: the caller's own words come back, for his other processes."""
    before = {name: os.environ.get(name) for name in (*_ENVIRONMENT, THREADS)}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _ray(evaluator: Evaluator, how: How) -> Iterator[tuple[int, dict[str, float], int, Path]]:
    """A running Ray: workers, resources of each, its threads, and a private scratch folder that goes at the end."""
    _remove_orphans()
    scratch = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=_short_folder()))
    try:
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)
        here = how.ray_address == "local"
        if not here:
            _join(ray, how.ray_address)
        cores, gpus = _hardware(evaluator.device) if here else _cluster_hardware(ray, evaluator.device)
        workers = how.workers or gpus or min(cores, _that_fit(evaluator) if here else cores)
        threads = _threads(cores, workers) if here else 1
        if here:
            os.environ[THREADS] = str(threads)
            _start(ray, workers, gpus, scratch)
        yield workers, _resources(workers, gpus), threads, scratch
    finally:
        _stop()
        shutil.rmtree(scratch, ignore_errors=True)


def _threads(cores: int, workers: int) -> int:
    """Threads of one worker here: an even share of the cores, and no more than the caller lets a process have."""
    share, asked = max(1, cores // workers), os.environ.get(THREADS, "").strip()
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share


def _resources(workers: int, gpus: int) -> dict[str, float]:
    """What one worker takes. A share cannot span two GPUs, and Ray counts shares in ten-thousandths."""
    if not gpus:
        return {"cpu": 1.0}
    a_card = math.ceil(workers / gpus)
    return {"cpu": 1.0, "gpu": 1.0 if a_card == 1 else math.floor(10_000 / a_card) / 10_000}


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}


def _start(ray: Any, workers: int, gpus: int, scratch: Path) -> None:
    """A Ray of our own: without an address `ray.init` joins whatever cluster the machine knows of (FACTS.md B18)."""
    try:
        ray.init(
            address="local",
            num_cpus=workers,
            num_gpus=gpus,
            include_dashboard=False,
            _temp_dir=str(scratch),
            **_QUIET,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_ray("local", error) from error


def _join(ray: Any, address: str) -> None:
    """Somebody's running cluster. Where nobody listens Ray itself tries on for a quarter of an hour, deaf to Ctrl-C."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        ray.init(address=address, **_QUIET)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise _no_ray(address, error) from error


def _no_ray(address: str, error: Exception) -> LayersearchError:
    reason = str(error).strip().splitlines()[0]
    return LayersearchError(f"Ray cannot be started at {address!r}: {reason}; use --workers 0 to run without Ray")


def _stop() -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()


def _hardware(device: str) -> tuple[int, int]:
    """Cores that this process may use (its affinity and its container's share count) and GPUs, if `device` is cuda."""
    if device != "cuda":
        return int(joblib.cpu_count()), 0
    import torch

    return int(joblib.cpu_count()), torch.cuda.device_count()


def _cluster_hardware(ray: Any, device: str) -> tuple[int, int]:
    """Cores and GPUs of the cluster that was joined."""
    has = ray.cluster_resources()
    return max(1, int(has.get("CPU", 1))), int(has.get("GPU", 0)) if device == "cuda" else 0


def _that_fit(evaluator: Evaluator) -> int:
    """Workers on the processor that this machine has memory for."""
    parameters = sum(p.numel() for p in evaluator.base.model.parameters())
    room = psutil.virtual_memory().available // (WORKER_BYTES + evaluator.recipe.training_bytes * parameters)
    return max(1, int(room))


def _short_folder() -> str:
    """/tmp where it exists: Ray's sockets need a path of at most 107 bytes, and TMPDIR may be long."""
    return "/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir()


def _remove_orphans() -> None:
    """Remove the scratch folders of runs that were killed; a folder is named after its driver."""
    for folder in Path(_short_folder()).glob(f"{SCRATCH}*"):
        number = folder.name.removeprefix(SCRATCH).split("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
