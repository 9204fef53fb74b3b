"""One-shot search: the order of its work, what a stop leaves, and the whole way on a tiny model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from layersearch.errors import TrainingError
from layersearch.pattern import Pattern
from layersearch.search.driver import Driver
from layersearch.search.one_shot import MOST_SHARED, OneShot, patterns_to_share
from layersearch.search.record import read_study
from layersearch.search.study import Study
from layersearch.search_space import SearchSpace
from layersearch.search_space import load as load_space
from layersearch.training.job import Job, Outcome
from tests.conftest import TinyRun, call
from tests.search.support import COUNTS, LAYERS, SPACE, open_study, outcome_of
from tests.search.test_driver import Witness

SCORES = {"0-3": 0.9, "0-2": 0.8, "0-1 3": 0.85, "0-1": 0.6, "2-3": 0.7, "0": 0.3, "3": 0.2}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def method(folder: Path, **changes: object) -> OneShot:
    """The method of a search with seed 0, which knows nothing yet."""
    patterns = patterns_to_share(SPACE, LAYERS, 0)
    given: dict[str, object] = {"known": {}, "keep": lambda _outcome: None, **changes}
    return OneShot(patterns, COUNTS, "maximize", folder, 0, **given)  # type: ignore[arg-type]


def network(job: Job) -> Outcome:
    """What a super-network's job gives."""
    return Outcome(job.number, job.pattern, job.seed, shared=SCORES, work=1.5)


def test_the_front_of_the_scores_comes_first_then_that_of_the_rest(tmp_path: Path) -> None:
    ranked = method(tmp_path, known=SCORES)
    assert ranked.front() == ["0-1 3", "0", "2-3"]
    assert ranked.ranked() == ["0-1 3", "0", "2-3", "0-2", "3", "0-1"]


def test_the_unchanged_model_then_its_network_then_the_best_candidates(tmp_path: Path) -> None:
    kept: list[Outcome] = []
    study = open_study(f"{tmp_path}/db", tmp_path, space=None)
    study.enqueue("0-3", 0)
    one_shot = method(tmp_path, keep=kept.append)
    driver = Driver(study, None, Witness(), one_shot=one_shot)
    jobs = []
    while not driver.done:
        job = driver.next_job()
        assert job is not None
        jobs.append(job)
        driver.finish(network(job) if job.patterns else outcome_of(job))
    assert [(job.pattern, bool(job.patterns)) for job in jobs] == [
        *(("0-3", False), ("0-3", True)),
        *((text, False) for text in ("0-1 3", "0", "2-3")),
    ]
    assert jobs[1].start == jobs[0].checkpoint
    assert {job.start for job in jobs[2:]} == {jobs[1].checkpoint}
    assert jobs[0].start is None
    assert [outcome.shared for outcome in kept] == [SCORES]
    assert study.finished() == 4


def test_while_the_network_is_out_nothing_else_goes_out(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path, space=None)
    study.enqueue("0-3", 0)
    driver = Driver(study, None, Witness(), one_shot=method(tmp_path))
    first = driver.next_job()
    assert first is not None
    assert driver.next_job() is None
    driver.finish(outcome_of(first))
    job = driver.next_job()
    assert job is not None
    assert job.number < 0
    assert driver.next_job() is None
    assert not driver.done
    driver.abandon("stopped")
    again = driver.next_job()
    assert again is not None
    assert again.patterns == job.patterns


def test_more_trials_go_on_with_the_next_front(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path, space=None)
    study.enqueue("0-3", 0)
    driver = Driver(study, 6, Witness(), one_shot=method(tmp_path, known=SCORES, made={0}))
    while not driver.done:
        job = driver.next_job()
        assert job is not None
        driver.finish(outcome_of(job))
    assert [row.pattern for row in study.rows()] == ["0-3", "0-1 3", "0", "2-3", "0-2", "3"]


def test_a_network_that_cannot_be_trained_ends_the_run(tmp_path: Path) -> None:
    one_shot = method(tmp_path)
    with pytest.raises(TrainingError, match="super-network of seed 0 cannot be trained: the loss is nan"):
        one_shot.tell(Outcome(-1, "0-3", 0, reason="the loss is nan"))
    for _ in range(2):
        one_shot.tell(Outcome(-1, "0-3", 0, reason="killed", lost=True, died=True))
    with pytest.raises(TrainingError, match="killed"):
        one_shot.tell(Outcome(-1, "0-3", 0, reason="killed", lost=True, died=True))


def test_a_large_space_is_shared_in_all_sizes() -> None:
    space = load_space("halves")
    patterns = patterns_to_share(space, 12, 0)
    assert len(set(patterns)) == len(patterns) == MOST_SHARED
    assert patterns[0] == Pattern.full(12)
    sizes = {pattern.depth for pattern in patterns}
    assert sizes >= set(range(1, 13))
    assert patterns == patterns_to_share(space, 12, 0)
    small = SearchSpace(choices=("keep", "drop"))
    assert set(patterns_to_share(small, 4, 0)) == set(small.patterns(4))


@pytest.fixture(scope="module")
def shared_run(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-shot search of the tiny model, confirmed with one fresh seed."""
    folder = tmp_path_factory.mktemp("one-shot")
    said = call("run", *tiny_run.what, *words(folder))
    assert said.code == 0, said.err
    assert "the super-network is trained and scored 15 patterns, for the work of " in said.err
    return folder


def words(folder: Path) -> tuple[str, ...]:
    """How the one-shot search of the tests is run."""
    where = ("--storage", f"{folder}/db", "--files", f"{folder}/files")
    return ("--method", "one-shot", "--study", "s", *where, "--workers", "0", "--device", "cpu")


def test_a_one_shot_search_ends_with_a_confirmed_front_and_shared_scores(shared_run: Path) -> None:
    record = read_study(f"{shared_run}/db", None, print)
    assert record.name == "s"
    assert record.rows[0].pattern == "0-3"
    assert {row.pattern for row in record.front} <= set(record.confirmed)
    assert all(row.work and row.work > 0 for row in record.rows)
    networks = sorted(entry.name for entry in (shared_run / "files" / "s" / "networks").iterdir())
    assert networks == ["super-0", "super-0-answers.npy", "unchanged-0"]


def test_the_same_command_again_trains_nothing(
    shared_run: Path, tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.training.evaluator.measure", lambda *_: pytest.fail("trained"))
    said = call("run", *tiny_run.what, *words(shared_run))
    assert said.code == 0, said.err


def test_more_trials_use_the_network_that_is_there(shared_run: Path, tiny_run: TinyRun, tmp_path: Path) -> None:
    shutil.copytree(shared_run, tmp_path / "own")
    before = len([row for row in read_study(f"{tmp_path}/own/db", None, print).rows if row.done])
    said = call("run", *tiny_run.what, *words(tmp_path / "own"), "--trials", str(before + 1), "--confirm", "0")
    assert said.code == 0, said.err
    assert "the super-network" not in said.err
    assert f"({before + 1}/{before + 1} done" in said.err


def test_a_candidate_whose_weights_were_not_kept_is_trained_again_from_its_network(
    shared_run: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(shared_run, own)
    record = read_study(f"{own}/db", None, print)
    row = record.front[-1]
    shutil.rmtree(row.checkpoint or "")
    said = call("export", "s", "--trial", row.number, "--to", tmp_path / "out", "--storage", f"{own}/db")
    assert said.code == 0, said.err
    found = re.search(r"trained again: accuracy (\S+), the study has (\S+)", said.err)
    assert found is not None
    assert found[1] == found[2]


def test_a_second_study_of_the_same_question_trains_a_network_of_its_own(
    shared_run: Path, tiny_run: TinyRun, tmp_path: Path
) -> None:
    shutil.copy(shared_run / "db", tmp_path / "db")
    again = ["t" if word == "s" else word for word in words(tmp_path)]
    said = call("run", *tiny_run.what, *again, "--trials", "2", "--confirm", "0")
    assert said.code == 0, said.err
    assert "the super-network is trained" in said.err
    assert all(row.reused is None for row in read_study(f"{tmp_path}/db", "t", print).rows)


def test_more_seeds_and_more_candidates_after_a_confirmed_run(
    shared_run: Path, tiny_run: TinyRun, tmp_path: Path
) -> None:
    """The networks of the first confirmation are gone by then."""
    own = tmp_path / "own"
    shutil.copytree(shared_run, own)
    said = call("run", *tiny_run.what, *words(own), "--trials", "6", "--confirm", "2")
    assert said.code == 0, said.err
    record = read_study(f"{own}/db", None, print)
    assert {len(record.confirmed[row.pattern].seeds) for row in record.front} == {2}


def test_a_stop_while_scores_are_written_leaves_no_half_of_them(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Study.add

    def stopped(self: Study, pattern: str, seed: int, score: float, parameters: int) -> None:
        if pattern == "0 2":
            raise RuntimeError("killed here")
        add(self, pattern, seed, score, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "add", stopped)
        with pytest.raises(RuntimeError, match="killed here"):
            call("run", *tiny_run.what, *words(tmp_path), "--trials", "2", "--confirm", "0")
    said = call("run", *tiny_run.what, *words(tmp_path), "--trials", "2", "--confirm", "0")
    assert said.code == 0, said.err
    assert len(read_study(f"{tmp_path}/db", None, print).shared) == 15


def test_how_well_shared_scores_rank_is_said_where_there_are_enough(shared_run: Path) -> None:
    record = read_study(f"{shared_run}/db", None, print)
    row = record.rows[0]
    texts = ("0", "1", "2", "3", "0-1", "0-2")
    rows = tuple(replace(row, number=n, pattern=text, score=n / 10) for n, text in enumerate(texts))
    good = replace(record, rows=rows, shared={text: n / 7 for n, text in enumerate(texts)})
    assert good.agreement is not None
    rho, low, high, number = good.agreement
    assert (rho, number) == (1.0, 6)
    assert low < rho
    assert high <= 1.0
    mixed = replace(good, shared=dict(zip(texts, (3, 1, 4, 1.5, 9, 2.6), strict=True)))
    assert mixed.agreement is not None
    assert mixed.agreement[1] < 0.31 < mixed.agreement[2]
    assert replace(good, rows=rows[:4]).agreement is None


def test_another_method_is_another_study(shared_run: Path, tiny_run: TinyRun) -> None:
    changed = [word for word in words(shared_run) if word not in ("--method", "one-shot")]
    said = call("run", *tiny_run.what, *changed)
    assert said.code == 1
    assert "method is 'one-shot' there and 'fine-tune' here" in said.err
