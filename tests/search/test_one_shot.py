"""One-shot search: the order of its work, what a stop leaves, and the whole way on a tiny model."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.errors import TrainingError
from layersearch.pattern import PartCounts, Pattern
from layersearch.search.distill import Distill
from layersearch.search.driver import Driver
from layersearch.search.objectives import Costs
from layersearch.search.one_shot import AT_ONCE, DRAWN, MOST_SHARED, OneShot, patterns_to_share
from layersearch.search.record import read_study
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.search_space import SearchSpace
from layersearch.space_files import load as load_space
from layersearch.training.job import Job, Outcome
from tests.conftest import TinyRun, call
from tests.search.support import COUNTS, LAYERS, SPACE, open_study, outcome_of
from tests.search.test_driver import Witness

SCORES = {"0-3": 0.9, "0-2": 0.8, "0-1 3": 0.85, "0-1": 0.6, "2-3": 0.7, "0": 0.3, "3": 0.2}


def method(folder: Path, space: SearchSpace = SPACE, **changes: object) -> OneShot:
    """The method of a search with seed 0, which knows nothing yet."""
    given: dict[str, object] = {"known": {}, "keep": lambda _outcome: None, **changes}
    return OneShot(space, Costs({"parameters": COUNTS}), "maximize", Distill(LAYERS, folder, 0), **given)  # type: ignore[arg-type]


def network(job: Job) -> Outcome:
    """What a super-network's job gives."""
    return Outcome(job.number, job.pattern, job.seed, shared=SCORES, work=1.5)


def test_the_front_of_the_scores_comes_first_then_that_of_the_rest(tmp_path: Path) -> None:
    ranked = method(tmp_path, known=SCORES)
    assert ranked.front() == ["0-1 3", "0", "2-3"]
    assert ranked.ranked() == ["0-1 3", "0", "2-3", "0-2", "3", "0-1"]


def test_the_unchanged_model_then_its_network_then_the_best_candidates(tmp_path: Path) -> None:
    kept: list[Outcome] = []
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.enqueue("0-3", 0)
    one_shot = method(tmp_path, keep=kept.append)
    driver = Driver(study, None, Witness(), warm=one_shot)
    jobs = []
    while not driver.done:
        job = driver.next_job()
        assert job is not None
        jobs.append(job)
        driver.finish(network(job) if job.patterns else outcome_of(job))
    assert [(job.pattern, bool(job.patterns)) for job in jobs] == [
        *(("0-3", False), ("0-3", True)),
        *((text, False) for text in ("0-1 3", "0", "2-3", "0-2", "3")),
    ]
    assert jobs[1].start == jobs[0].checkpoint
    assert {job.start for job in jobs[2:]} == {jobs[1].checkpoint}
    assert jobs[0].start is None
    assert [outcome.shared for outcome in kept] == [SCORES]
    assert study.finished() == 6


def test_while_the_network_is_out_nothing_else_goes_out(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.enqueue("0-3", 0)
    driver = Driver(study, None, Witness(), warm=method(tmp_path))
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
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.enqueue("0-3", 0)
    driver = Driver(study, 6, Witness(), warm=method(tmp_path, known=SCORES, made={0}))
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


@pytest.fixture
def _starts_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained here, so nothing lies on the disk."""
    monkeypatch.setattr(Distill, "missing", lambda *_: None)


def work(driver: Driver, scores: dict[str, float]) -> list[Job]:
    """Work a driver off, candidates of the network scored as `scores` say."""
    jobs = []
    while not driver.done:
        job = driver.next_job()
        if job is None:
            continue
        jobs.append(job)
        outcome = outcome_of(job)
        if job.start and not job.patterns:
            outcome = replace(outcome, score=scores.get(job.pattern, 0.5), start=Path(job.start).name)
        driver.finish(network(job) if job.patterns else outcome)
    return jobs


@pytest.mark.usefixtures("_starts_are_there")
def test_where_shared_scores_rank_nothing_the_search_goes_on_without_them(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.enqueue("0-3", 0)
    witness = Witness()
    opposite = {text: 1 - score for text, score in SCORES.items()}
    jobs = work(Driver(study, None, witness, warm=method(tmp_path)), opposite)
    assert any("scores do not agree with those of the fine-tuned candidates" in line for line in witness.lines)
    assert [Path(job.start or "").name for job in jobs[2:8]] == [*["super-0"] * 5, "unchanged-0"]
    assert {Path(job.start or "").name for job in jobs[7:]} == {"unchanged-0"}
    assert {job.budget for job in jobs[2:7]} == {0.3}
    assert {job.budget for job in jobs[7:]} == {None}
    assert len({job.pattern for job in jobs}) == SPACE.size(LAYERS)


def test_agreeing_scores_and_scores_within_the_noise_are_trusted(tmp_path: Path) -> None:
    for name, scores in (("agree", SCORES), ("noise", {text: 0.8 - score / 100 for text, score in SCORES.items()})):
        study = open_study(f"{tmp_path}/{name}.db", tmp_path, name)
        study.enqueue("0-3", 0)
        jobs = work(Driver(study, None, Witness(), warm=method(tmp_path)), scores)
        assert {Path(job.start or "").name for job in jobs[2:]} == {"super-0"}
        assert len(jobs) == 7


@pytest.mark.usefixtures("_starts_are_there")
def test_the_confirmation_goes_the_way_of_the_search(tmp_path: Path) -> None:
    """A member of the front that was found without the network is confirmed without one."""
    study = open_study(f"{tmp_path}/db", tmp_path, space=None)
    one_shot = method(tmp_path, known=SCORES, made={0})
    rows = [Row(1, "COMPLETE", "0-2", 0, 0.8, start="super-0"), Row(2, "COMPLETE", "0", 0, 0.4, start="unchanged-0")]
    one_shot.plan([("0-3", 1), ("0-2", 1), ("0", 1)], rows)
    study.enqueue("0-3", 1)
    jobs = work(Driver(study, 3, Witness(), warm=one_shot), SCORES)
    assert [(job.pattern, Path(job.start or "").name) for job in jobs] == [
        *(("0-3", ""), ("0-3", "unchanged-1"), ("0-2", "super-1"), ("0", "unchanged-1")),
    ]
    assert jobs[1].patterns
    assert not jobs[1].scores


def test_in_a_large_space_neighbours_of_the_front_are_scored_until_there_are_enough(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    costs = Costs({"parameters": PartCounts(fixed=10, attention=(1,) * 12, ffn=(2,) * 12)})
    one_shot = OneShot(load_space("layers"), costs, "maximize", Distill(12, tmp_path, 0), {}, lambda _: None)
    sizes = []
    while patterns := one_shot._to_score(study, 0):
        sizes.append(len(patterns))
        scores = {str(p): sum(12 - block.layer for block in p.blocks) / 99 for p in patterns}
        one_shot.tell(Outcome(-1, "0-11", 0, shared=scores))
    assert sizes[0] < sum(sizes) == len(one_shot.known) <= MOST_SHARED
    assert sizes[0] >= DRAWN
    assert max(sizes[1:]) == AT_ONCE
    assert set(one_shot.front()) == {str(Pattern.of_layers(range(size))) for size in range(1, 12)}


def test_the_front_of_another_study_is_scored_too(tmp_path: Path) -> None:
    costs = Costs({"parameters": PartCounts(fixed=10, attention=(1,) * 12, ffn=(2,) * 12)})
    drawn = set(patterns_to_share(load_space("layers"), 12, 0))
    start = next(pattern for pattern in load_space("layers").patterns(12) if pattern not in drawn)
    alone = Distill(12, tmp_path, 0)
    one_shot = OneShot(load_space("layers"), costs, "maximize", alone, {}, lambda _: None, starts=(start,))
    assert set(one_shot._to_score(open_study(f"{tmp_path}/db", tmp_path), 0)) == {start, *drawn}


def test_scores_that_are_not_finite_are_not_asked_for_again(tmp_path: Path) -> None:
    costs = Costs({"parameters": PartCounts(fixed=10, attention=(1,) * 12, ffn=(2,) * 12)})
    one_shot = OneShot(load_space("layers"), costs, "maximize", Distill(12, tmp_path, 0), {}, lambda _: None)
    one_shot.known = {"0-10": 0.5}
    asked = [pattern for _ in range(5) for pattern in one_shot._near_the_front()]
    assert len(asked) == len(set(asked)) > 10


def test_a_large_space_is_shared_in_all_sizes() -> None:
    space = load_space("halves")
    patterns = patterns_to_share(space, 12, 0)
    assert DRAWN <= len(set(patterns)) == len(patterns) < MOST_SHARED
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
    (folder,) = (shared_run / "files" / "s").glob("networks-*")
    networks = sorted(entry.name for entry in folder.iterdir())
    assert networks == ["super-0", "super-0-answers.npy", "unchanged-0"]


def test_the_scores_over_the_super_network_are_a_front_too(shared_run: Path, tiny_run: TinyRun) -> None:
    where = ("--storage", f"{shared_run}/db")
    said = call("front", "s.shared", *where, "--all", "--json")
    assert said.code == 0, said.err
    shared = read_study(f"{shared_run}/db", None, print).shared
    assert {row["pattern"]: row["score"] for row in json.loads(said.out)} == shared
    assert len(shared) == 15
    said = call("front", "s.shared", *where)
    assert "scores over the super-network's weights: no pattern was trained by itself" in said.out
    assert "export" not in said.out.splitlines()[-1]
    assert "there is no study 's.shared' in " in call("export", "s.shared", *where, "--trial", "0", "--to", "x").err
    said = call("front", "tiny.shared", "--storage", tiny_run.storage)
    assert said.err == "error: study 'tiny' has no scores over a super-network; --method one-shot makes them\n"


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


@pytest.mark.slow
def test_further_seeds_and_a_later_confirmation_have_networks_of_their_own(
    shared_run: Path, tiny_run: TinyRun, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(shared_run, own)
    said = call("run", *tiny_run.what, *words(own), "--replicates", "1")
    assert said.code == 0, said.err
    assert "further seeds near the front: study s.again" in said.err
    several = {row.pattern for row in read_study(f"{own}/db", None, print).rows if row.seeds}
    assert "0-3" in several
    where = ("--storage", f"{own}/db", "--files", f"{own}/files", "--workers", "0", "--device", "cpu")
    said = call("confirm", "s", "--seeds", "2", *where)
    assert said.code == 0, said.err
    assert "the super-network of seed 2 is trained now" in said.err
    record = read_study(f"{own}/db", "s", print)
    assert {record.confirmed[row.pattern].seeds for row in record.front} == {(1, 2)}
    (networks,) = (own / "files" / "s").glob("networks-*")
    assert sorted(entry.name for entry in networks.iterdir()) == ["super-0", "super-0-answers.npy", "unchanged-0"]


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
    rows = tuple(replace(row, number=n, pattern=text, score=n / 10, start="super-0") for n, text in enumerate(texts))
    good = replace(record, rows=rows, shared={text: n / 7 for n, text in enumerate(texts)})
    assert good.agreement is not None
    assert (good.agreement.rho, good.agreement.number) == (1.0, 6)
    assert good.agreement.low < 1.0
    assert good.agreement.high <= 1.0
    mixed = replace(good, shared=dict(zip(texts, (3, 1, 4, 1.5, 9, 2.6), strict=True)))
    assert mixed.agreement is not None
    assert mixed.agreement.low < 0.31 < mixed.agreement.high
    assert replace(good, rows=rows[:4]).agreement is None


def test_each_candidate_by_itself_from_the_unchanged_model(tiny_run: TinyRun, tmp_path: Path) -> None:
    given = [word if word != "one-shot" else "distill" for word in words(tmp_path)]
    said = call("run", *tiny_run.what, *given, "--trials", "5")
    assert said.code == 0, said.err
    record = read_study(f"{tmp_path}/db", None, print)
    assert [row.start for row in record.rows] == [None, *["unchanged-0"] * 4]
    assert record.rows[0].work == pytest.approx(1, rel=0.2)
    more = [(row.work or 0) - Pattern.parse(row.pattern).depth / 4 for row in record.rows]
    assert all(0 < work < 0.3 for work in more)  # scoring, and for the first one the teacher's answers
    assert {row.pattern for row in record.front} <= set(record.confirmed)
    row = record.rows[-1]
    shutil.rmtree(row.checkpoint or "", ignore_errors=True)
    said = call("export", "s", "--trial", row.number, "--to", tmp_path / "out", "--storage", f"{tmp_path}/db")
    assert said.code == 0, said.err


def test_a_start_that_is_gone_is_made_again_and_no_pattern_fails_for_it(tiny_run: TinyRun, tmp_path: Path) -> None:
    given = [word if word != "one-shot" else "distill" for word in words(tmp_path)]
    assert call("run", *tiny_run.what, *given, "--trials", "3").code == 0
    (networks,) = (tmp_path / "files" / "s").glob("networks-*")
    assert sorted(entry.name for entry in networks.iterdir()) == ["unchanged-0", "unchanged-0-answers.npy"]
    before = (networks / "unchanged-0" / "model.safetensors").read_bytes()
    shutil.rmtree(networks)
    said = call("run", *tiny_run.what, *given, "--trials", "5", "--confirm", "2")
    assert said.code == 0, said.err
    assert (networks / "unchanged-0" / "model.safetensors").read_bytes() == before
    rows = read_study(f"{tmp_path}/db", None, print).rows
    assert [row.state for row in rows if row.start or row.number == 0] == ["COMPLETE"] * 5


def test_networks_of_another_question_are_not_taken(shared_run: Path, tiny_run: TinyRun, tmp_path: Path) -> None:
    """The database is gone, the files are not, and the question has another learning rate."""
    shutil.copytree(shared_run / "files", tmp_path / "files")
    said = call("run", *tiny_run.what, *words(tmp_path), "--lr", "5e-3", "--trials", "2", "--confirm", "0")
    assert said.code == 0, said.err
    work = re.search(r"is trained and scored 15 patterns, for the work of (\S+) fine-tunings", said.err)
    assert work is not None
    assert float(work[1]) > 1.3
    assert len(list((tmp_path / "files" / "s").glob("networks-*"))) == 2


def test_a_network_that_was_trained_before_a_kill_is_paid_for(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Study, "add", lambda *_: pytest.fail("killed here"))
        with pytest.raises(pytest.fail.Exception):
            call("run", *tiny_run.what, *words(tmp_path), "--trials", "2", "--confirm", "0")
    said = call("run", *tiny_run.what, *words(tmp_path), "--trials", "2", "--confirm", "0")
    work = re.search(r"is trained and scored 15 patterns, for the work of (\S+) fine-tunings", said.err)
    assert work is not None
    assert float(work[1]) > 1.3


def test_another_method_is_another_study(shared_run: Path, tiny_run: TinyRun) -> None:
    changed = [word for word in words(shared_run) if word not in ("--method", "one-shot")]
    said = call("run", *tiny_run.what, *changed)
    assert said.code == 1
    assert "method is 'one-shot' there and 'fine-tune' here" in said.err
