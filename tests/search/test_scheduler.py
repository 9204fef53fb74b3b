"""Halving with a real Ray: the scheduler pauses and ends, the searcher hands out again, a dead driver loses nothing."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from layersearch.search.driver import Driver
from layersearch.search.halving import Rungs
from layersearch.search.scheduler import RungScheduler
from layersearch.search.searcher import LayerSearcher
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import Halving
from tests.conftest import call
from tests.search.support import open_study, outcome_of
from tests.search.test_cluster import command, end, left_over, start, trials, wait_for
from tests.search.test_driver import Witness

TRIALS = 9


def halving(model: Path, data: Path, folder: Path, *, epochs: float = 3) -> list[str]:
    """A whole run on the tiny model with two workers."""
    return command(model, data, folder, workers=2, trials=TRIALS, epochs=epochs, method="halving")


def by_number(folder: Path) -> dict[int, optuna.trial.FrozenTrial]:
    return {trial.number: trial for trial in trials(folder)}


def rungs_of(trial: optuna.trial.FrozenTrial) -> dict[float, float]:
    return dict(trial.user_attrs.get("rungs", ()))


def check_ended(folder: Path) -> None:
    """Every candidate is complete or stopped, no stretch of anybody's is missing, and no state lies about."""
    ended = [trial for trial in trials(folder) if trial.state == TrialState.COMPLETE or rungs_of(trial)]
    assert {trial.state for trial in ended} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(ended) == TRIALS
    assert TrialState.RUNNING not in {trial.state for trial in trials(folder)}
    for trial in ended:
        shares = sorted(rungs_of(trial))
        assert shares == ([0.111111, 0.333333] if trial.state == TrialState.COMPLETE else shares)
        assert shares[0] == 0.111111
    assert ended[0].state == TrialState.COMPLETE  # the unchanged model
    assert [t.state for t in trials(folder, "s.confirm")].count(TrialState.COMPLETE) >= 1
    assert not list((folder / "files" / "s" / "paused").glob("*"))


def check_same_as_in_full(model: Path, data: Path, folder: Path) -> None:
    """Whoever was complete has the numbers of a training that never halted, in this process."""
    (folder / "full").mkdir()
    words = command(model, data, folder / "full", workers=0, trials=15, epochs=3)
    assert call(*words[words.index("run") :], "--confirm", "0").code == 0
    whole = {trial.user_attrs["pattern"]: trial for trial in trials(folder / "full") if "pattern" in trial.user_attrs}
    for trial in (trial for trial in trials(folder) if trial.state == TrialState.COMPLETE):
        other = whole[trial.user_attrs["pattern"]]
        assert trial.user_attrs["train_loss"] == pytest.approx(other.user_attrs["train_loss"], abs=2e-6)
        assert trial.values == other.values


def test_ray_pauses_hands_out_again_and_ends(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    process = start(halving(tiny_model, tiny_data, tmp_path), tmp_path)
    try:
        assert process.wait(timeout=200) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        end(process)
    check_ended(tmp_path)
    check_same_as_in_full(tiny_model, tiny_data, tmp_path)
    log = (tmp_path / "log").read_text()
    assert "at rung 0.111, paused" in log
    assert "at rung 0.111, goes on" in log
    assert "Traceback" not in log
    assert not left_over(tmp_path)


@pytest.mark.slow
def test_a_killed_driver_loses_no_rung_that_was_told(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    words = halving(tiny_model, tiny_data, tmp_path)
    process = start(words, tmp_path)
    try:
        wait_for(tmp_path, 1, process)
    finally:
        end(process)
    known = {number: rungs_of(trial) for number, trial in by_number(tmp_path).items() if rungs_of(trial)}
    assert known
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    after = by_number(tmp_path)
    for number, rungs in known.items():
        assert rungs.items() <= rungs_of(after[number]).items()
        assert after[number].state in (TrialState.COMPLETE, TrialState.PRUNED)
    check_ended(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dead_worker_costs_its_candidate_a_stretch(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    process = start(halving(tiny_model, tiny_data, tmp_path, epochs=60), tmp_path)
    try:
        wait_for(tmp_path, 1, process)
        below = psutil.Process(process.pid).children(recursive=True)
        titles = {p: " ".join(p.cmdline()) for p in below}
        next(p for p, title in titles.items() if title.startswith(("ray::Resource", "ray::Worker"))).kill()
        assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        end(process)
    check_ended(tmp_path)
    assert "the worker process died" in (tmp_path / "log").read_text()


# -- without Ray ------------------------------------------------------------------------------------------------------


class RayTrial:
    """What the scheduler knows of a Ray trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


@pytest.fixture
def searcher(tmp_path: Path) -> LayerSearcher:
    study = open_study(f"{tmp_path}/db", tmp_path)
    driver = Driver(study, 6, Witness(), halving=Rungs(Halving(eta=2, first=0.5), "maximize", "0-3"))
    return LayerSearcher(driver, 4, tmp_path, 60.0)


def at_rung(job: dict[str, Any], score: float) -> dict[str, Any]:
    given = {**job, "rungs": tuple(job["rungs"])}
    return {"outcome": Outcome(**{**vars(outcome_of(Job(**given))), "score": score, "rung": 0.5}).as_json()}


def test_stop_ends_the_ray_trial_and_the_candidate_comes_back_as_another(searcher: LayerSearcher) -> None:
    scheduler = RungScheduler(searcher)
    jobs = {}
    for name in ("a", "b", "c"):
        config = searcher.suggest(name)
        assert isinstance(config, dict)
        jobs[name] = config["job"]
    said = {
        name: scheduler.on_trial_result(None, RayTrial(name), at_rung(jobs[name], score))
        for name, score in (("a", 0.9), ("b", 0.5), ("c", 0.3))
    }
    assert said == {"a": TrialScheduler.CONTINUE, "b": TrialScheduler.STOP, "c": TrialScheduler.STOP}
    searcher.on_trial_complete("b", at_rung(jobs["b"], 0.5))  # what Tune says of a Ray trial that it ended
    again = searcher.suggest("d")
    assert isinstance(again, dict)
    assert (again["job"]["number"], again["job"]["rungs"]) == (jobs["b"]["number"], (1.0,))
    assert searcher.error is None


def test_a_run_that_ends_while_a_candidate_is_between_rungs_leaves_it_paused(searcher: LayerSearcher) -> None:
    config = searcher.suggest("a")
    assert isinstance(config, dict)
    assert searcher.goes_on("a", at_rung(config["job"], 0.9))
    searcher.on_trial_complete("a", at_rung(config["job"], 0.9))  # Tune's last result is that of the rung
    row = searcher._driver.study.rows()[0]
    assert row.paused
    assert row.score is None


def test_what_goes_wrong_in_a_decision_ends_the_run_with_it(
    searcher: LayerSearcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = searcher.suggest("a")
    assert isinstance(config, dict)
    monkeypatch.setattr(Driver, "reached", lambda *_: 1 / 0)
    assert RungScheduler(searcher).on_trial_result(None, RayTrial("a"), at_rung(config["job"], 0.9)) == "STOP"
    assert isinstance(searcher.error, ZeroDivisionError)
    assert searcher.stopping


def test_nothing_of_the_study_goes_into_tunes_pickles(searcher: LayerSearcher) -> None:
    assert len(pickle.dumps(RungScheduler(searcher))) < 200
