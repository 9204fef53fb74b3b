"""Ray: warm workers, deaths, stalls, signals, `kill -9`. Each run has a Ray of its own and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import optuna
import psutil
import pytest
import torch
from optuna.trial import TrialState

from layersearch.errors import LayersearchError
from layersearch.search import cluster
from layersearch.search.cluster import _cluster_hardware, _hardware, _resources, _threads, run_with_ray
from layersearch.search.question import How
from layersearch.search.worker import Watchdog

TRIALS = 8


def command(
    model: Path,
    data: Path,
    folder: Path,
    *,
    workers: int,
    trials: int = TRIALS,
    epochs: float = 1,
    method: str = "fine-tune",
) -> list[str]:
    """A whole run on the tiny model."""
    words = {
        "--method": method,
        "--model": model,
        "--task": "sst2",
        "--data": data,
        "--trials": trials,
        "--confirm": 1,
        "--epochs": epochs,
        "--max-length": 16,
        "--study": "s",
        "--storage": folder / "db",
        "--files": folder / "files",
        "--workers": workers,
        "--device": "cpu",
    }
    flags = [str(word) for pair in words.items() for word in pair]
    return [sys.executable, "-m", "layersearch", "run", *flags]


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, its output in a file."""
    with (folder / "log").open("a") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, text=True, start_new_session=True)


def trials(folder: Path, name: str = "s") -> list[optuna.trial.FrozenTrial]:
    """The trials of a study, none if it is not there yet."""
    try:
        return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/db").trials
    except (KeyError, optuna.exceptions.StorageInternalError):
        return []


def finished(folder: Path) -> dict[str, list[float]]:
    """Pattern -> values of the complete trials."""
    complete = [t for t in trials(folder) if t.state == TrialState.COMPLETE]
    patterns = [t.user_attrs["pattern"] for t in complete]
    assert len(patterns) == len(set(patterns)), "a pattern was trained twice"
    return {t.user_attrs["pattern"]: t.values for t in complete}


def wait_for(folder: Path, number: int, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until `number` trials are complete."""
    end = time.monotonic() + seconds
    while len(finished(folder)) < number:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        assert time.monotonic() < end, (folder / "log").read_text()[-2000:]
        time.sleep(0.2)


def end(process: subprocess.Popen[str]) -> None:
    """Nothing of a run may stay behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def left_over(folder: Path) -> list[str]:
    """Command lines of processes that still name the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(folder) in words and process.pid != os.getpid():
            found.append(words)
    return found


@pytest.mark.parametrize("method", [pytest.param("fine-tune", marks=pytest.mark.slow), "one-shot"])
def test_ray_works_a_study_off_with_warm_workers_and_confirms_it(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, method: str
) -> None:
    process = start(command(tiny_model, tiny_data, tmp_path, workers=2, method=method), tmp_path)
    try:
        assert process.wait(timeout=200) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        end(process)
    assert len(finished(tmp_path)) == TRIALS
    first = trials(tmp_path)[0]
    assert first.user_attrs["pattern"] == "0-3"
    assert first.state == TrialState.COMPLETE
    assert first.user_attrs["ray_trial"]
    assert f"torch {torch.__version__}" in first.user_attrs["versions"]
    confirmed = trials(tmp_path, "s.confirm")
    assert {t.state for t in confirmed} == {TrialState.COMPLETE}
    assert "0-3" in {t.user_attrs["pattern"] for t in confirmed}
    assert not left_over(tmp_path)
    assert not list(Path("/tmp").glob(f"ls-{process.pid}-*"))


@pytest.mark.parametrize(
    ("method", "number"),
    [("fine-tune", 3), *(pytest.param("one-shot", number, marks=pytest.mark.slow) for number in (1, 3))],
)
def test_a_killed_driver_loses_no_finished_trial_and_the_same_command_goes_on(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, method: str, number: int
) -> None:
    """One finished trial of a one-shot search is the unchanged model: its super-network is trained then."""
    words = command(tiny_model, tiny_data, tmp_path, workers=2, method=method)
    process = start(words, tmp_path)
    try:
        wait_for(tmp_path, number, process)
    finally:
        end(process)
    known = finished(tmp_path)
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    after = finished(tmp_path)
    assert len(after) == TRIALS
    assert known.items() <= after.items()
    assert TrialState.RUNNING not in {t.state for t in trials(tmp_path)}


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGINT, 0)])
def test_a_signal_stops_cleanly_and_says_what_is_known(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    process = start(command(tiny_model, tiny_data, tmp_path, workers=workers, trials=15, epochs=20), tmp_path)
    try:
        wait_for(tmp_path, 2, process)
        os.kill(process.pid, number)
        assert process.wait(timeout=60) == 130
    finally:
        end(process)
    log = (tmp_path / "log").read_text()
    assert "every finished trial is in the study" in log
    assert "Traceback" not in log
    states = [t.state for t in trials(tmp_path)]
    assert TrialState.RUNNING not in states
    assert states.count(TrialState.COMPLETE) >= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dead_worker_costs_its_trial_a_retry_and_nothing_else(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    process = start(command(tiny_model, tiny_data, tmp_path, workers=2, epochs=30), tmp_path)
    try:
        wait_for(tmp_path, 1, process)
        below = psutil.Process(process.pid).children(recursive=True)
        titles = {p: " ".join(p.cmdline()) for p in below}
        next(p for p, title in titles.items() if title.startswith(("ray::Resource", "ray::Worker"))).kill()
        assert process.wait(timeout=200) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        end(process)
    assert len(finished(tmp_path)) == TRIALS
    reasons = [t.user_attrs.get("reason") for t in trials(tmp_path) if t.state == TrialState.FAIL]
    assert "the worker process died (killed, out of memory, or crashed)" in reasons


def test_the_watchdog_ends_a_process_that_makes_no_progress_and_leaves_its_stack(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from layersearch.search.cluster import _resources
from layersearch.search.worker import Watchdog
with Watchdog(Path({str(tmp_path / "1.txt")!r}), 1.0) as watchdog:
    for _ in range(8):
        time.sleep(0.25)
        watchdog.feed(0.5)
    print("fed", flush=True)
    def hang():
        time.sleep(600)
    hang()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stdout == "fed\n"
    assert "in hang" in (tmp_path / "1.txt").read_text()


def test_the_watchdog_leaves_nothing_after_a_good_end(tmp_path: Path) -> None:
    with Watchdog(tmp_path / "1.txt", 5.0) as watchdog:
        watchdog.feed(1.0)
    assert not (tmp_path / "1.txt").exists()


@pytest.mark.parametrize(
    ("workers", "gpus", "share"), [(1, 1, 1.0), (4, 1, 0.25), (6, 1, 0.1666), (3, 2, 0.5), (2, 2, 1.0), (1, 2, 1.0)]
)
def test_workers_share_gpus_in_parts_that_fit(workers: int, gpus: int, share: float) -> None:
    assert _resources(workers, gpus)["gpu"] == share
    assert workers <= gpus * int(1 / share)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_cores_that_the_process_may_not_use_do_not_count() -> None:
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    script += "from layersearch.search.cluster import _hardware; print(_hardware('cpu'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert done.stdout == "(1, 0)\n"
    assert _hardware("cpu")[0] <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("asked", "threads"), [(None, 4), ("1", 1), (" 3 ", 3), ("16", 4), ("2,1", 4), ("0", 4)])
def test_a_worker_takes_no_more_threads_than_the_caller_has(
    asked: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asked is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert _threads(8, 2) == threads
    assert _threads(1, 2) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_the_environment_as_it_was(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    def tune(*_: object) -> None:
        seen.update(os.environ)
        if fails:
            raise RuntimeError("no")

    monkeypatch.setattr("ray.init", lambda **_: None)
    monkeypatch.setattr(cluster, "_tune", tune)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "5000")
    before = dict(os.environ)
    evaluator = SimpleNamespace(device="cpu")
    with pytest.raises(RuntimeError) if fails else contextlib.nullcontext():
        run_with_ray(cast(Any, None), cast(Any, evaluator), How("s", workers=1))
    assert (seen["HF_HUB_OFFLINE"], seen["TOKENIZERS_PARALLELISM"]) == ("1", "false")
    assert seen["OMP_NUM_THREADS"] == str(_hardware("cpu")[0])
    assert dict(os.environ) == before


def test_ray_is_not_sent_where_nobody_listens() -> None:
    """It would try on for a quarter of an hour."""
    joined: list[str] = []
    ray = SimpleNamespace(init=lambda address, **_: joined.append(address))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(
            LayersearchError, match=rf"^Ray cannot be started at '{address}': .*refused; use --workers 0"
        ):
            cluster._join(ray, address)
        listening.listen()
        cluster._join(ray, address)
    cluster._join(ray, "auto")
    assert joined == [address, "auto"]
    with pytest.raises(LayersearchError, match=r"^Ray cannot be started at '127.0.0.1:99999': "):
        cluster._join(ray, "127.0.0.1:99999")


def test_a_joined_cluster_counts_its_own_hardware() -> None:
    class Cluster:
        @staticmethod
        def cluster_resources() -> dict[str, float]:
            return {"CPU": 96.0, "GPU": 8.0, "memory": 1e12}

    assert _cluster_hardware(Cluster, "cuda") == (96, 8)
    assert _cluster_hardware(Cluster, "cpu") == (96, 0)


def test_without_a_gpu_a_worker_takes_a_core() -> None:
    assert _resources(3, 0) == {"cpu": 1.0}


def test_when_the_time_is_over_ray_begins_no_candidate_and_the_confirmation_follows(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Ray alone takes longer than a second to start."""
    process = start([*command(tiny_model, tiny_data, tmp_path, workers=1), "--time", "1s"], tmp_path)
    assert process.wait(timeout=180) == 0, (tmp_path / "log").read_text()[-2000:]
    assert "the search ended: 1 s are over" in (tmp_path / "log").read_text().splitlines()
    assert len(finished(tmp_path)) < TRIALS
    assert [t.state for t in trials(tmp_path, "s.confirm")] == [TrialState.COMPLETE]
