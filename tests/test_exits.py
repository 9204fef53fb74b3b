"""Exit codes: 2 for words that cannot be meant, whoever finds it; 1 where the words were right and something failed.

Knows: words and codes. Does not know: the texts of errors, which stand beside what raises them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from layersearch.search import run as searching
from tests.conftest import Said, TinyRun, call

ASK = "--model {model} --task sst2 --data {data} --storage s.db"
OWN = "--model {model} --task own --data t.csv --storage s.db"
OF = "--storage {storage}"
ROWS = "review,stars\n" + "good film,1\nbad film,0\n" * 20
TABLE = "pattern,score,task\n0-3,1,a\n0-2,0.5,a\n0-1,0.4,b\n"

WRONG = (
    "frnt",
    "front --frob",
    f"plan {ASK} --trials 0",
    "plan",
    "plan --model {model} --task mprc",
    "plan --model {model} --task demo --data {data}",
    "plan --model {model} --task squad",
    "plan --model {model} --task conll",
    "plan --model {model} --task images",
    "plan --model {model} --task perplexity",
    "plan --model {model} --task own",
    f"plan {OWN} --text reviw --label stars",
    f"plan {OWN} --text review --label stars --metric f2",
    f"plan {OWN} --text review --label stars --metric f1-micro",
    f"plan {OWN} --text review --text-pair review --label stars",
    f"plan {ASK} --drop-every 0 --method fine-tune",
    f"plan {ASK} --text review --label stars",
    f"plan {ASK} --space layer",
    f"plan {ASK} --sampler NSGASampler",
    f"plan {ASK} --sampler greedy --method one-shot",
    f"plan {ASK} --recipe defualt",
    f"plan {ASK} --revision v1",
    f"plan {ASK} --lr 7",
    f"plan {ASK} --epochs 0",
    f"plan {ASK} --precision fp8",
    f"plan {ASK} --freeze 3-1",
    f"plan {ASK} --freeze 9",
    f"plan {ASK} --teach nothing",
    f"plan {ASK} --teach hidden --method fine-tune",
    f"plan {ASK} --drop-every 2",
    f"plan {ASK} --mix gama",
    f"plan {ASK} --mix no-gamma",
    f"plan {ASK} --sparsity 2",
    f"plan {ASK} --sparsity-lr 0.1",
    f"plan {ASK} --sparsity 0.5 --sparsity-steps 0.8-0.1",
    f"plan {ASK} --holdout 1.5",
    f"plan {ASK} --measure-on {{model}}",
    f"plan {ASK} --max-length 9000",
    f"plan {ASK} --objectives metric,mac",
    f"plan {ASK} --max-params 1%",
    f"plan {ASK} --max-params 60x",
    f"plan {ASK} --objectives metric,macs --method halving",
    f"run {ASK} --device tpu",
    f"run {ASK} --disk 1kb --workers 0",
    "plan --replay t.csv --score scor",
    "plan --replay t.csv --where task=c",
    "patterns --model {model} --task sst2 --data {data} --strategy tops",
    "patterns --model {model} --task sst2 --data {data} --strategy top --k 9",
    "patterns --model {model} --task sst2 --data {data} --strategy top --threshold 0.5",
    "patterns --model {model} --task sst2 --data {data} --strategy contribution --k 2 --threshold 0.5",
    "analyze --model {model} --task sst2 --data {data} --pattern 4-3",
    "analyze --model {model} --task sst2 --data {data} --what ckaa",
    "analyze --model {model} --task sst2 --data {data} --what probes --probe tense",
    "front --storage sqlite://",
    f"front tyni {OF}",
    f"front tiny.shared {OF}",
    f"front tiny {OF} --png front.bmp",
    f"show tiny {OF} --trial 99",
    f"export tiny {OF} --trial 99 --to x",
    f"export tiny {OF} --trial 0 --to x --push-to-hub a/b/c",
    f"confirm tiny {OF} --trial 99",
    f"best tiny {OF}",
    f"best tiny {OF} --max-drop 1",
    f"best tiny {OF} --max-params 60x",
    f"importance tiny {OF} --shared",
    f"compare tiny tyni {OF}",
)

FAILED = (
    "plan --model absent/ --task sst2 --data {data}",
    "plan --model package:absent/model --task demo",
    "plan --model {model} --task sst2 --data absent",
    "plan --model {model} --task own --data absent.csv --text review --label stars",
    "plan --model {model} --task conll --data absent",
    f"plan {ASK} --space absent.toml",
    "plan --replay absent.csv",
    "front --storage absent.db",
    "front --storage none.db",
    "verify absent",
    "reproduce absent",
    "run --model {model} --task sst2 --data {data} --storage {storage} --study tiny --seed 7 --workers 0",
    f"best tiny {OF} --max-latency 8ms",
    f"best tiny {OF} --max-params 1%",
    f"export tiny {OF} --trial 0 --to full",
)


@pytest.fixture
def said(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Said:
    """What a command line says in a folder with two tables, beside a finished study."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERSEARCH_STORAGE", raising=False)
    Path("t.csv").write_text(
        TABLE if "--replay" in request.param else "review,stars\n" + "good film,1\nbad film,0\n" * 20
    )
    optuna.storages.RDBStorage("sqlite:///none.db")  # without any study
    Path("full").mkdir()
    Path("full", "mine.txt").touch()
    typed = dict(zip(tiny_run.what[::2], tiny_run.what[1::2], strict=True))
    places = {"model": typed["--model"], "data": typed["--data"], "storage": tiny_run.storage}
    return call(*request.param.format(**places).split())


@pytest.mark.parametrize("said", WRONG, indirect=True)
def test_words_that_cannot_be_meant_end_with_2_and_one_line(said: Said) -> None:
    lines = said.err.splitlines()
    assert (said.code, said.out) == (2, ""), said
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], said


@pytest.mark.parametrize("said", FAILED, indirect=True)
def test_what_fails_though_the_words_are_right_ends_with_1(said: Said) -> None:
    assert said.code == 1, said


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """What runs in the background may have been told to ignore Ctrl-C; `main` leaves SIGTERM as Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_before_the_first_candidate_says_what_is_kept(
    number: int, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and tokens load between the line `searching:` and the first candidate; they are not waited for."""

    def stopped_meanwhile(*_: Any) -> None:
        os.kill(os.getpid(), number)
        pytest.fail("went on")

    monkeypatch.setattr(searching, "make_evaluator", stopped_meanwhile)
    own = shutil.copy(tiny_run.storage, tmp_path / "own.db")
    said = call("run", *tiny_run.what, "--study", "tiny", "--storage", own, "--workers", "0", "--trials", "6")
    assert said.code == 130, said
    assert said.err.splitlines()[-2:] == [
        "searching: study tiny, 5 of 6 trials finished",
        "stopped; every finished trial is in the study. The same command goes on from here",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_anywhere_else_is_one_line(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped_meanwhile(*_: object) -> None:
        os.kill(os.getpid(), number)
        pytest.fail("went on")

    monkeypatch.setattr("layersearch.api.planned", stopped_meanwhile)
    said = call("plan", "--model", "m", "--task", "demo")
    assert said == Said(130, "", "stopped\n")


def test_a_stop_that_got_lost_in_a_callback_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dropped:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)

    def dropped_meanwhile() -> None:
        del (dropped := [Dropped()])[0]
        time.sleep(20)
        pytest.fail(f"went on, {dropped}")

    monkeypatch.setattr("layersearch.cli.main", dropped_meanwhile)
    begun = time.monotonic()
    assert call("front") == Said(130, "", "stopped\n")
    assert time.monotonic() - begun < 10, "what the command waits for is not waited for"


CHILD = """
import atexit, os, signal, sys, time
from layersearch.entry import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["layersearch", "--version"]
def stopped(*_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0)
"""
WHILE_IT_IMPORTS = """
class Finder:
    def find_spec(self, name, *_):
        if name == "layersearch.api":
            stopped()
sys.meta_path.insert(0, Finder())
main()
"""
WHILE_IT_EXITS = """
atexit.register(stopped)
main()
"""


@pytest.mark.parametrize(("when", "code", "said"), [(WHILE_IT_IMPORTS, 130, "stopped\n"), (WHILE_IT_EXITS, 0, "")])
def test_a_stop_while_python_starts_or_ends_leaves_no_traceback(when: str, code: int, said: str) -> None:
    """At the end the work is done, and the exit is what it would have been."""
    done = subprocess.run([sys.executable, "-c", CHILD + when], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)
