"""The dashboard: for this machine only, read-only unless asked otherwise, with a readable note on each trial."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

from layersearch.errors import StudyError
from layersearch.report import dashboard
from layersearch.report.dashboard import guarded, serve
from layersearch.training.job import Outcome
from tests.search.support import close_all, open_study, outcome_of

Ask = Callable[..., tuple[int, bytes]]


def status_of(method: str, host: str | None, *, writable: bool) -> str:
    """What the guard answers before an app that always says 200."""

    def app(_environ: object, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"inside"]

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {"REQUEST_METHOD": method, "HTTP_HOST": host or ""}
    said: list[str] = []
    guarded(app, writable=writable)(environ, lambda status, *_: said.append(status))  # type: ignore[arg-type]
    return said[0]


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "localhost"])
def test_reading_under_a_local_name_is_let_in(host: str, writable: bool) -> None:
    assert status_of("GET", host, writable=writable) == "200 OK"


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.", None])
def test_a_foreign_host_is_refused(host: str | None, writable: bool) -> None:
    assert status_of("GET", host, writable=writable) == "403 Forbidden"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "MADE-UP"])
def test_changing_is_refused_unless_writable(method: str) -> None:
    assert status_of(method, "localhost", writable=False) == "403 Forbidden"
    assert status_of(method, "localhost", writable=True) == "200 OK"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A study with a finished, a failed and a waiting trial."""
    study = open_study(f"{tmp_path}/db", tmp_path)
    for failed in (False, True):
        job = study.ask()
        assert job is not None
        lost = Outcome(job.number, job.pattern, job.seed, reason="the loss is nan at step 3")
        study.tell(lost if failed else outcome_of(job))
    study._study.enqueue_trial({})
    yield f"{tmp_path}/db"
    close_all()


@contextmanager
def served(storage: str, monkeypatch: pytest.MonkeyPatch, *, writable: bool = False) -> Iterator[Ask]:
    """The real dashboard on a free port; gives a function that asks it."""
    made: list[WSGIServer] = []

    def watched(*args: Any, **kwargs: Any) -> WSGIServer:
        made.append(make_server(*args, **kwargs))
        return made[0]

    monkeypatch.setattr(dashboard, "make_server", watched)
    said: list[str] = []
    ready = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        ready.set()

    thread = threading.Thread(target=serve, args=(storage, 0), kwargs={"writable": writable, "say": say}, daemon=True)
    thread.start()
    assert ready.wait(60)
    port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/", said[-1])[0])

    def ask(method: str, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    try:
        yield ask
    finally:
        made[0].shutdown()
        thread.join(10)


def test_a_study_is_served_and_a_delete_leaves_it(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(database, monkeypatch) as ask:
        assert ask("GET", "/")[0] in (200, 302)
        status, page = ask("GET", "/dashboard")
        assert status == 200
        assert b"<html" in page.lower()
        studies = json.loads(ask("GET", "/api/studies")[1])["study_summaries"]
        assert [study["study_name"] for study in studies] == ["s"]
        status, reason = ask("DELETE", f"/api/studies/{studies[0]['study_id']}")
        assert status == 403
        assert "--writable" in json.loads(reason)["reason"]
        assert ask("GET", "/api/studies", Host="evil.example")[0] == 403
    assert optuna.get_all_study_names(f"sqlite:///{database}") == ["s"]


def test_writable_lets_a_study_be_deleted(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counterpart: without the guard the same request would have deleted it."""
    with served(database, monkeypatch, writable=True) as ask:
        assert ask("DELETE", "/api/studies/1")[0] == 204
    assert optuna.get_all_study_names(f"sqlite:///{database}") == []


def test_each_trial_has_a_note_that_names_its_pattern_and_values(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(database, monkeypatch) as ask:
        study = json.loads(ask("GET", "/api/studies/1")[1])
        assert study["objective_names"] == ["acc", "parameters"]
        done, failed, waiting = (trial["note"]["body"] for trial in study["trials"][:3])
        assert "pattern **0-3**" in done
        assert "acc **0.7600** (95 % interval 0.7100 to 0.8100)" in done
        assert "parameters **1,400**" in done
        assert "reason: the loss is nan at step 3" in failed
        assert waiting == ""
        assert study["best_trials"][0]["note"]["body"] == done
        assert ask("GET", "/api/studies/99")[0] == 404


def test_a_checkpoint_is_named_as_long_as_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").mkdir()
    study = open_study(f"{tmp_path}/db", tmp_path)
    for folder in ("kept", "gone"):
        job = study.ask()
        assert job is not None
        study.tell(replace(outcome_of(job), checkpoint=f"{tmp_path}/{folder}"))
    close_all()
    with served(f"{tmp_path}/db", monkeypatch) as ask:
        trials = json.loads(ask("GET", "/api/studies/1")[1])["trials"]
    named = [attr["value"] for trial in trials for attr in trial["user_attrs"] if attr["key"] == "checkpoint"]
    assert named == [f"{tmp_path}/kept"]


def test_a_taken_port_is_said(database: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match=rf"port {port} cannot be used \(Address already in use\); .* --port"):
            serve(database, port, writable=False, say=lambda _: None)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no study database"):
        serve(f"{tmp_path}/absent.db", 0, writable=False, say=lambda _: None)
    assert not list(tmp_path.iterdir())
