"""Whose weights stay: the front's, all or none; a cap that holds at every moment; what a kill leaves never counts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from layersearch.errors import WordsError
from layersearch.pattern import Pattern
from layersearch.report.notes import notes_on_disk
from layersearch.search.driver import Driver
from layersearch.search.files import bytes_in, checkpoint_of, checkpoints_in, is_whole, shown
from layersearch.search.fronts import fronts, thinned
from layersearch.search.keeping import BESIDE, Keeping, require_disk
from layersearch.search.preparing import prepare
from layersearch.search.question import How, What
from layersearch.search.record import read_study
from layersearch.search.replicates import contested
from layersearch.search.study import Study
from layersearch.training.job import Job
from tests.conftest import TinyRun, call
from tests.search.support import COUNTS, open_study, outcome_of
from tests.search.test_driver import Witness

PARAMETERS = partial(Pattern.parameters, counts=COUNTS)
WHOLE = 4 * COUNTS.total + BESIDE


def write(folder: Path, parameters: int) -> None:
    """What looks like a checkpoint, as large as one."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w" * (4 * parameters + BESIDE - 100))
    (folder / "manifest.json").write_text(json.dumps({"size": 4 * parameters + BESIDE - 100}))


def worked(study: Study, keeping: Keeping, trials: int = 15) -> list[int]:
    """Work a search off whose candidates write weights; the bytes that lay there at every moment."""
    driver, found = Driver(study, trials, Witness(), keeping=keeping), [0]
    while not driver.done:
        jobs = [job for job in (driver.next_job(), driver.next_job()) if job]
        for job in jobs:
            if job.checkpoint is not None:
                write(Path(job.checkpoint), PARAMETERS(Pattern.parse(job.pattern)))
            found.append(bytes_in(study.folder))
        for job in jobs:
            driver.finish(outcome_of(job))
    return found


def weights(study: Study) -> list[int]:
    return [number for number, folder in checkpoints_in(study.folder).items() if is_whole(folder)]


@pytest.mark.parametrize("wholes", [2, 4.5])
def test_a_cap_holds_at_every_moment(wholes: float, tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    cap = int(wholes * WHOLE)
    found = worked(study, Keeping("front", cap, PARAMETERS), trials=9)
    assert 0 < max(found) <= cap
    left = weights(study)
    assert len(left) >= (1 if wholes < 4 else 2)
    assert wholes < 4 or set(left) <= {row.number for row in study.front()}


def test_all_the_front_and_none_keep_what_they_say_and_all_lose_first_what_is_off_the_front(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    worked(study, Keeping("all", None, PARAMETERS), trials=8)
    done, front = {row.number for row in study.rows() if row.done}, {row.number for row in study.front()}
    assert set(weights(study)) == done
    behind = max(done - front)
    cap = sum(bytes_in(checkpoint_of(study.folder, number)) for number in front | {behind}) - 1
    Keeping("all", cap, PARAMETERS).tidy(study)
    assert set(weights(study)) == front
    write(checkpoint_of(study.folder, behind), 1)
    Driver(study, 8, Witness())
    assert set(weights(study)) == front
    Driver(study, 8, Witness(), keeping=Keeping("none"))
    assert weights(study) == []


def test_the_only_checkpoint_stays_though_its_pattern_has_left_the_front(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    worked(study, Keeping("none"), trials=8)
    off = [row.number for row in study.rows() if row not in study.front()][:2]
    for number in off:
        write(checkpoint_of(study.folder, number), 1)
    Keeping().tidy(study)
    assert len(weights(study)) == 1
    write(checkpoint_of(study.folder, study.front()[0].number), 1)
    Keeping().tidy(study)
    assert weights(study) == [study.front()[0].number]


def test_the_weights_of_the_front_of_the_means_stay(tmp_path: Path) -> None:
    """One seed was lucky: with another the pattern leaves the front, and one that it beat joins it."""
    study = open_study(f"{tmp_path}/db", tmp_path)
    worked(study, Keeping("all", None, PARAMETERS), trials=8)
    front = study.front()
    lucky = front[len(front) // 2]
    further = [replace(lucky, number=0, seed=1000, score=-9.0)]
    Keeping("front", None, PARAMETERS, further=further).tidy(study)
    kept = weights(study)
    assert lucky.number not in kept
    assert {row.number for row in front} - {lucky.number} <= set(kept)
    assert not study.rows()[lucky.number].seeds


@pytest.mark.parametrize("awaited", [False, True])
def test_whom_further_seeds_may_bring_onto_the_front_stays_until_they_are_there(
    awaited: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.search.replicates.noise_of", lambda _: 0.01)
    study = open_study(f"{tmp_path}/db", tmp_path)
    worked(study, Keeping("front", None, PARAMETERS, awaited=awaited))
    beaten = next(row for row in study.rows() if row.pattern == "0-1 3")
    assert "0-2" in [row.pattern for row in study.front()], "as large, and a little better"
    waiting = set(weights(study)) - {row.number for row in study.front()}
    assert (beaten.number in waiting) == awaited
    close = contested(study.rows(), "maximize")
    assert {study.rows()[number].pattern for number in waiting} <= (set(close) if awaited else set())
    assert len(waiting) < sum(row.done for row in study.rows()) - len(study.front()), "the others have gone"
    further = [replace(beaten, number=0, seed=1000, score=0.9)]
    Keeping("front", None, PARAMETERS, further=further).tidy(study)
    kept = {study.rows()[number].pattern for number in weights(study)}
    assert ("0-1 3" in kept) == awaited
    assert "0-2" not in kept
    job = Job(99, "0-3", 0)
    assert bool(Keeping(awaited=awaited).placed(study, job).front) != awaited, "what is behind it is written too"


def test_under_a_cap_whom_further_seeds_may_bring_onto_the_front_goes_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.search.replicates.noise_of", lambda _: 0.01)
    study = open_study(f"{tmp_path}/db", tmp_path)
    worked(study, Keeping("all", None, PARAMETERS))
    rows, front = [row for row in study.rows() if row.done], {row.number for row in study.front()}
    order = Keeping("all", None, PARAMETERS, awaited=True)._least_useful(rows, study)
    behind = [number for number in order if number not in front]
    waiting = [row for pattern in contested(rows, "maximize") for row in rows if row.pattern == pattern]
    close = [row.number for row in waiting if row.number not in front]
    assert 0 < len(close) < len(behind)
    assert order == [*behind, *order[len(behind) :]]
    assert behind[-len(close) :] == close[::-1], "the closest last"
    assert Keeping("all", None, PARAMETERS)._least_useful(rows, study) != order


def test_the_front_is_thinned_where_its_members_lie_nearest() -> None:
    points = [(1.0, 100.0), (0.99, 95.0), (0.9, 70.0), (0.5, 40.0), (0.1, 10.0)]
    assert thinned(points) == [1, 2, 3, 0, 4]
    assert thinned([]) == []
    assert thinned([(0.5, 1.0)]) == [0]
    equal = [(0.5, 1.0, 1.0), (0.5, 1.0, 1.0)]
    assert sorted(thinned(equal)) == [0, 1]
    assert fronts(points) == [[0, 1, 2, 3, 4]]


def test_a_kill_in_the_middle_of_a_deletion_or_of_a_write_leaves_no_wrong_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.note(num_layers=4, parameters=COUNTS.total, files=str(study.folder))
    worked(study, Keeping("front", None, PARAMETERS), trials=6)
    front = [row.number for row in study.front()]

    class Killed(BaseException):
        pass

    steps = count()

    def killed(path: Path, **_: bool) -> None:
        if path.exists():  # half of it is gone
            next(steps)
            (path / "manifest.json").unlink()
            raise Killed

    monkeypatch.setattr("layersearch.search.files.shutil.rmtree", killed)
    with pytest.raises(Killed):
        Keeping("none").tidy(study)
    monkeypatch.undo()
    assert next(steps) == 1
    assert len(weights(study)) == len(front) - 1
    half = checkpoint_of(study.folder, front[-1])
    (half / "model.safetensors").write_bytes(b"half")  # as an older version or a copy may leave it
    (study.folder / "checkpoints" / ".trial-00007.1.part").mkdir()
    (study.folder / "networks-x").mkdir()
    (study.folder / "networks-x" / "super-0-answers.npy.abc.part").touch()
    assert len(weights(study)) == len(front) - 2
    Driver(study, 6, Witness())
    assert not list(study.folder.rglob("*.part"))


def test_a_driver_that_begins_leaves_alone_what_another_one_writes(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    job = Driver(study, 3, Witness()).next_job()
    assert job is not None
    (study.folder / "checkpoints").mkdir(parents=True)
    mine = study.folder / "checkpoints" / f".trial-{job.number:05d}.77.part"
    mine.mkdir()
    Keeping().begin(study)
    assert mine.is_dir()


def test_a_paused_candidate_is_put_down_only_where_its_state_fits(tmp_path: Path) -> None:
    study, job = open_study(f"{tmp_path}/db", tmp_path), Job(3, "0-3", 0, checkpoint="there")
    room = 4 * 4 * COUNTS.total + 2 * BESIDE
    assert Keeping().state_for(study, job) is not None
    assert Keeping("front", room, PARAMETERS).state_for(study, job) is not None
    assert Keeping("front", room - 1, PARAMETERS).state_for(study, job) is None
    assert Keeping("front", 2 * room - 1, PARAMETERS).state_for(study, job, [replace(job, state="s")]) is None


@pytest.mark.parametrize(
    ("size", "up", "text"),
    [(10**10, False, "10GB"), (46_856, True, "46.9kB"), (1_234_567, True, "1.24MB"), (12, True, "0.02kB")],
)
def test_sizes_are_told_as_they_are_typed(size: int, up: bool, text: str) -> None:
    assert shown(size, up=up) == text


def run(tiny_run: TinyRun, *more: str) -> tuple[int, str]:
    said = call("run", *tiny_run.what, "--storage", "s.db", "--study", "s", "--workers", "0", "--device", "cpu", *more)
    return said.code, said.err


@pytest.mark.parametrize("method", ["fine-tune", "one-shot"])
def test_a_cap_that_is_too_small_is_refused_with_one_that_works(
    tiny_run: TinyRun, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, line = run(tiny_run, "--method", method, "--disk", "30kB")
    assert code == 2
    beside = " beside the models that candidates of the search and of 1 fresh seed start from" * (method == "one-shot")
    fewer = ", or --confirm 0" * (method == "one-shot")
    wanted = (
        rf"error: --disk 30kB holds no checkpoint while the next is written{beside}; give --disk (\S+) or more{fewer}"
    )
    found = re.fullmatch(wanted, line.splitlines()[-1])
    assert found is not None, line
    assert not Path("s.db").exists()
    monkeypatch.setattr("layersearch.search.run._search", lambda *_, **__: pytest.fail("began"))
    with pytest.raises(pytest.fail.Exception, match="began"):
        run(tiny_run, "--method", method, "--disk", found[1])


def test_a_confirmation_is_not_told_of_options_that_it_lacks(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    question = prepare(What(str(tiny_model), "sst2", tiny_data, method="one-shot"))
    how = How("s", f"{tmp_path}/db", tmp_path, disk=30_000)
    require_disk(replace(question, what=replace(question.what, method="fine-tune")), how, 2, confirming=True)
    wanted = (
        r"^the study's --disk 30kB holds no checkpoint while the next is written beside the models that candidates of "
        r"the search and of 2 fresh seeds start from; "
        r"continue it with `layersearch run \.\.\. --disk \S+` or more, or give fewer --seeds$"
    )
    with pytest.raises(WordsError, match=wanted):
        require_disk(question, how, 2, confirming=True)


def test_a_size_that_is_none_is_refused(tiny_run: TinyRun) -> None:
    for text in ("10", "0GB", "ten"):
        code, line = run(tiny_run, "--disk", text)
        allowed = "allowed: a size such as 500MB, 10GB or 1.5TB"
        assert (code, line) == (2, f"error: --disk {text} is not possible; {allowed}\n")


def test_the_front_says_what_the_study_takes_and_whose_weights_are_gone(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.note(num_layers=4, parameters=COUNTS.total, folder=str(study.folder), disk=10**9)
    worked(study, Keeping("none"), trials=5)
    numbers = ", ".join(str(row.number) for row in study.front())
    first, second = notes_on_disk(read_study(f"{tmp_path}/db", "s", print))
    assert re.fullmatch(rf"disk: [\d.]+kB of 1GB in {study.folder}", first)
    assert second == f"the weights of trials {numbers} are not kept: `layersearch export` trains them again"
