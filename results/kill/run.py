"""Does `kill -9` of the driver at any moment lose a finished trial, leave one RUNNING, or make one be trained twice?

Makes a tiny random BERT and a tiny task, measures how long one undisturbed run takes, and then kills fresh runs again
and again at moments drawn uniformly from that time: half of the times the driver alone, half of the times its whole
process group. The same command is then given again until it ends by itself. After each kill a copy of the database and
the outbox is read, before anything heals it; at the end the study is compared with all these copies. No network and no
data besides. Run from the root of the repository: `python -m results.kill.run`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.process
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

from results.kill.disk import Snapshot, Trial, integrity, snapshot
from results.kill.tiny import make_data, make_model
from results.machine import as_table, environment, write_csv

CONFIRM = 1
GONE_SECONDS = 90.0  # within which all of a killed run must be gone; Ray's agents take a minute after their driver
LONGEST = 300.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # two threads that wait for each other on busy cores take seconds a step
_PRELOAD = [
    *("layersearch.search.run", "layersearch.report.console", "transformers.models.bert.modeling_bert"),
    *("sklearn.metrics", "scipy.stats", "evaluate"),
]
Driver = subprocess.Popen[bytes] | multiprocessing.process.BaseProcess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--ray-runs", type=int, default=4, help="how many of them have two Ray workers, the rest none")
    parser.add_argument("--kills", type=int, default=3, help="at most so many kills a run, at least one")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "kill.csv")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        folder = Path(name)
        make_model(folder / "model")
        make_data(folder / "data", random.Random(0))
        os.environ.update(_ONE_THREAD)
        exit_code(start(["run", "--help", "--workers", "0"], folder), LONGEST)  # loads the libraries to fork from
        kinds = {2 if number < args.ray_runs else 0 for number in range(args.runs)}
        whole = {workers: undisturbed_seconds(folder, workers, args.trials) for workers in sorted(kinds)}
        print(environment("torch", "transformers", "optuna", "ray"))
        print("undisturbed: " + ", ".join(f"{s:.1f} s with --workers {w}" for w, s in whole.items()), flush=True)
        records = []
        for number in range(args.runs):
            workers = 2 if number < args.ray_runs else 0
            records.append(campaign(folder, number, workers, args.trials, args.kills, whole[workers], rng))
            print(records[-1], flush=True)
            write_csv(args.out, records)
    print(as_table(records))
    bad = [record for record in records if any(record[name] for name in _MUST_BE_ZERO) or record["integrity"] != "ok"]
    sys.exit(f"{len(bad)} of {len(records)} runs broke a promise" if bad else None)


_MUST_BE_ZERO = ("lost", "left_running", "trained_twice", "missing", "left_processes")


def campaign(
    folder: Path, number: int, workers: int, trials: int, kills: int, whole: float, rng: random.Random
) -> dict[str, Any]:
    """One fresh study, killed once to `kills` times at moments drawn from `whole` seconds and then left to end."""
    snapshots: list[Snapshot] = []
    processes, folders, ways, moments, fresh = 0, 0, [], [], 0
    home, words = fresh_home(folder, f"{number}-{fresh}", workers, trials)
    while len(snapshots) < kills:
        moment, group = rng.uniform(0, whole), rng.random() < 0.5
        left = killed_run(words, home, moment, group=group)
        if left is None and snapshots:
            break
        if left is None:  # it ended before anybody killed it: another study, and sooner
            whole, fresh = 0.8 * whole, fresh + 1
            home, words = fresh_home(folder, f"{number}-{fresh}", workers, trials)
            continue
        processes, folders = processes + left[0], folders + left[1]
        ways.append("group" if group else "driver")
        moments.append(round(moment, 1))
        snapshots.append(snapshot(home))
    code = exit_code(start(words, home), LONGEST)
    if code:
        print((home / "output.txt").read_text()[-2000:])
    return {
        "run": number,
        "workers": workers,
        "kills": len(snapshots),
        "killed": "+".join(ways),
        "at_s": "+".join(map(str, moments)),
        "complete_at_kills": "+".join(str(sum(t.state == "COMPLETE" for t in s.trials)) for s in snapshots),
        "untold_at_kills": "+".join(str(len(s.untold)) for s in snapshots),
        "exit": code,
        **verdict(snapshot(home).trials, snapshots, trials),
        "integrity": integrity(home / "study.db"),
        "left_processes": processes,
        "left_folders": folders,
    }


def fresh_home(folder: Path, name: str, workers: int, trials: int) -> tuple[Path, list[str]]:
    """An empty folder for a study, and the words of its command."""
    home = folder / f"run-{name}"
    home.mkdir()
    return home, words_for(folder, home, workers, trials)


def verdict(last: list[Trial], snapshots: list[Snapshot], wanted: int) -> dict[str, int]:
    """Compare the finished study with what every kill left; all but `complete`, `confirmed`, `wasted` must be 0."""
    found = {(trial.study, trial.number): trial for trial in last}
    scores = {(t.pattern, t.seed, t.values[0]) for t in last if t.state == "COMPLETE"}
    lost = sum(
        found.get((before.study, before.number)) != before
        for moment in snapshots
        for before in moment.trials
        if before.state == "COMPLETE"
    )
    lost += sum(
        (paid["pattern"], paid["seed"], paid["score"]) not in scores
        for moment in snapshots
        for paid in moment.untold
        if paid["score"] is not None
    )
    search = sum(t.state == "COMPLETE" and t.study == "s" for t in last)
    confirmed = sum(t.state == "COMPLETE" and t.study != "s" for t in last)
    return {
        "complete": search,
        "confirmed": confirmed,
        "wasted": sum(t.state == "FAIL" for t in last),
        "missing": abs(wanted - search) + (confirmed == 0),
        "lost": lost,
        "left_running": sum(t.state == "RUNNING" for t in last),
        "trained_twice": trained_twice(last),
    }


def trained_twice(trials: list[Trial]) -> int:
    """Trials that are complete, running or failed although an earlier one of the same study had their result."""
    twice = 0
    for done in (t for t in trials if t.state == "COMPLETE"):
        for other in trials:
            same = (other.study, other.pattern, other.seed) == (done.study, done.pattern, done.seed)
            if not same or other.number == done.number or other.state in ("PRUNED", "WAITING"):
                continue
            twice += other.state == "COMPLETE" or (other.started or "") > (done.ended or "")
    return twice


# -- one run -----------------------------------------------------------------------------------------------------------


def words_for(folder: Path, home: Path, workers: int, trials: int) -> list[str]:
    """The words of the one command that starts and continues a run."""
    return [
        *(
            "run",
            "--method",
            "fine-tune",
            "--model",
            str(folder / "model"),
            "--task",
            "sst2",
            "--data",
            str(folder / "data"),
        ),
        *("--space", "halves", "--trials", str(trials), "--confirm", str(CONFIRM), "--epochs", "4"),
        *("--batch-size", "8", "--study", "s", "--storage", str(home / "study.db"), "--files", str(home / "files")),
        *("--workers", str(workers), "--device", "cpu", "--max-length", "32", "--method", "fine-tune"),
    ]


def undisturbed_seconds(folder: Path, workers: int, trials: int) -> float:
    """Wall-clock seconds of a whole run that nobody kills."""
    home = folder / f"undisturbed-{workers}"
    home.mkdir()
    began = time.perf_counter()
    code = exit_code(start(words_for(folder, home, workers, trials), home), LONGEST)
    if code:
        sys.exit(f"the undisturbed run failed with {code}: {(home / 'output.txt').read_text()[-2000:]}")
    return time.perf_counter() - began


def start(words: list[str], home: Path, mark: str = "") -> Driver:
    """Give the command `words` to a new process that leads its own group.

    Runs with Ray are commands as a user gives them. Runs without are forked from a process that has the libraries
    loaded, so that more of the kills hit work and fewer hit imports.
    """
    if words[words.index("--workers") + 1] != "0":
        environ = {**os.environ, "KILL_MARK": mark}
        with (home / "output.txt").open("a") as output:
            command = [sys.executable, "-m", "layersearch", *words]
            return subprocess.Popen(
                command, cwd=home, env=environ, start_new_session=True, stdout=output, stderr=subprocess.STDOUT
            )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    driver = context.Process(target=_layersearch, args=(words, home))
    driver.start()
    return driver


def _layersearch(words: list[str], home: Path) -> None:
    """The command line in a forked process."""
    os.setsid()
    os.chdir(home)
    with (home / "output.txt").open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.argv = ["layersearch", *words]
    from layersearch.entry import main as command_line

    command_line()


def exit_code(driver: Driver, seconds: float) -> int | None:
    """Wait up to `seconds`; None if the driver still runs then."""
    if isinstance(driver, subprocess.Popen):
        try:
            return driver.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
    driver.join(seconds)
    return driver.exitcode


def killed_run(words: list[str], home: Path, moment: float, *, group: bool) -> tuple[int, int] | None:
    """Start a run and kill it after `moment` seconds; processes and Ray folders it left, None if it ended before."""
    mark = uuid.uuid4().hex
    driver = start(words, home, mark)
    if exit_code(driver, moment) is not None:
        return None
    assert driver.pid is not None
    try:
        family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        folders = ray_folders(family)
        alone = not group or os.getpgid(driver.pid) != driver.pid  # so early that it does not lead its group yet
        (os.kill if alone else os.killpg)(driver.pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):  # it ended in this very moment
        return None
    exit_code(driver, GONE_SECONDS)
    left = still_there(family, mark)
    for process in left:
        print(f"still there: {process.cmdline()[:4]}, {process.status()}", flush=True)
        process.kill()
    kept = [folder for folder in folders if folder.exists()]
    for folder in kept:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left), len(kept)


def still_there(family: list[psutil.Process], mark: str) -> list[psutil.Process]:
    """The processes of a killed run that outlive it by `GONE_SECONDS`."""
    until = time.monotonic() + GONE_SECONDS
    while True:
        marked = [p for p in psutil.process_iter() if _environ(p).get("KILL_MARK") == mark]
        left = [p for p in {*family, *marked} if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def ray_folders(family: list[psutil.Process]) -> set[Path]:
    """The scratch folders that the Ray processes of `family` name on their command lines."""
    found: set[Path] = set()
    for process in family:
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            continue
        found |= {Path(match) for match in re.findall(r"--temp-dir=(/\S+/ls-[\w-]+)", words)}
    return found


if __name__ == "__main__":
    main()
