"""The dashboard: for this machine only, read-only unless asked otherwise, with notes and files, during a run too."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import socket
import sqlite3
import subprocess
import tarfile
import threading
import time
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
from layersearch.pattern import Pattern
from layersearch.report import dashboard
from layersearch.report.dashboard import guarded, only_reading, serve
from layersearch.report.dressing import HIDDEN, LONGEST
from layersearch.search.storage import open_storage, parse_url
from layersearch.search.study import Study
from layersearch.training.job import Outcome
from tests.report.test_html import CHROMIUM
from tests.search.support import COUNTS, LAYERS, close_all, open_study, outcome_of

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


def known_study(folder: Path) -> Study:
    """A new study with what a run notes of its model."""
    study = open_study(f"{folder}/db", folder)
    study.note(num_layers=LAYERS, parameters=Pattern.full(LAYERS).parameters(COUNTS), model_type="bert")
    return study


def told(study: Study, **more: Any) -> Outcome:
    """The outcome of the next candidate, which the study is told with `more` of it."""
    job = study.ask()
    assert job is not None
    outcome = replace(outcome_of(job), **more)
    study.tell(outcome)
    return outcome


def make_checkpoint(folder: Path) -> Path:
    """A folder with the two files of a checkpoint, and one that is not of it."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 20)
    (folder / "manifest.json").write_text('{"format": 1, "size": 5120}')
    (folder / "other.txt").write_text("private")
    return folder


def make_database(folder: Path) -> str:
    """A study with a finished, a failed and a waiting trial; the weights of the first are kept."""
    study = known_study(folder)
    told(study, checkpoint=str(make_checkpoint(folder / "kept")), work=1.0)
    told(study, score=None, reason="the loss is nan at step 3")
    study._study.enqueue_trial({})
    close_all()
    return f"{folder}/db"


@pytest.fixture
def database(tmp_path: Path) -> str:
    return make_database(tmp_path)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """The dashboard over such a database, for tests that only read."""
    with served(make_database(tmp_path_factory.mktemp("study"))) as ask:
        yield ask


@contextmanager
def served(storage: str, *, writable: bool = False) -> Iterator[Ask]:
    """The real dashboard on a free port; gives a function that asks it."""
    made: list[WSGIServer] = []

    def watched(*args: Any, **kwargs: Any) -> WSGIServer:
        made.append(make_server(*args, **kwargs))
        return made[0]

    patch = pytest.MonkeyPatch()
    patch.setattr(dashboard, "make_server", watched)
    said: list[str] = []
    ready = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        ready.set()

    thread = threading.Thread(target=serve, args=(storage, 0), kwargs={"writable": writable, "say": say}, daemon=True)
    thread.start()
    assert ready.wait(60)
    patch.undo()
    port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/", said[-1])[0])

    def ask(method: str, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    ask.port = port  # type: ignore[attr-defined]
    try:
        yield ask
    finally:
        made[0].shutdown()
        thread.join(10)


def test_a_study_is_served_and_a_delete_leaves_it(database: str) -> None:
    with served(database) as ask:
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


def test_writable_lets_a_study_be_deleted(database: str) -> None:
    """The counterpart: without the guard the same request would have deleted it."""
    with served(database, writable=True) as ask:
        assert ask("DELETE", "/api/studies/1")[0] == 204
    assert optuna.get_all_study_names(f"sqlite:///{database}") == []


def test_each_trial_has_a_note_a_command_and_its_weights(reading: Ask) -> None:
    study = json.loads(reading("GET", "/api/studies/1")[1])
    assert study["objective_names"] == ["acc", "parameters"]
    done, failed, waiting = (trial["note"]["body"] for trial in study["trials"][:3])
    assert done.startswith("`████` pattern **0-3**")
    assert "- complete, on the front\n" in done
    assert "- acc: 0.7600 in the search, 95 % interval 0.7100 to 0.8100\n" in done
    assert "- parameters: 1,400, 100.0 % of the unchanged model's\n" in done
    assert "- export: native\n" in done
    assert re.search(r"```\nlayersearch export s --trial 0 --to s-0 --storage \S+/db\n```", done)
    assert "failed (the loss is nan at step 3)" in failed
    assert "export" not in failed
    assert waiting == ""
    assert study["best_trials"][0]["note"]["body"] == done
    files = [[file["filename"] for file in trial["artifacts"]] for trial in study["trials"]]
    assert files == [["s-0.tar"], [], []]
    assert json.loads(reading("GET", "/api/meta")[1])["artifact_is_available"]
    assert reading("GET", "/api/studies/99")[0] == 404


def test_attributes_are_short_and_the_question_is_spelled_out(reading: Ask) -> None:
    study = json.loads(reading("GET", "/api/studies/1")[1])
    (summary,) = json.loads(reading("GET", "/api/studies")[1])["study_summaries"]
    named = {attr["key"] for trial in study["trials"] for attr in trial["user_attrs"]}
    assert named >= {"pattern", "interval", "seconds"}
    assert not named & HIDDEN
    assert not {attr["key"] for attr in study["union_user_attrs"]} & HIDDEN
    attrs = {attr["key"]: attr["value"] for attr in study["user_attrs"]}
    assert "purpose" not in attrs
    assert attrs["sampler"] == "NSGAIISampler"
    everywhere = [*study["user_attrs"], *summary["user_attrs"], *(a for t in study["trials"] for a in t["user_attrs"])]
    assert max(len(attr["value"]) for attr in everywhere) <= LONGEST


def test_pictures_and_report_are_made_when_asked_for(reading: Ask) -> None:
    study = json.loads(reading("GET", "/api/studies/1")[1])
    names = [file["artifact_id"] for file in study["artifacts"]]
    assert names == ["front.png", "layers.png", "kept.png", "report.html"], "one trial beats nothing, and has no course"
    for name in names:
        assert f"(/artifacts/1/{name})" in study["note"]["body"]
        status, body = reading("GET", f"/artifacts/1/{name}")
        assert status == 200
        assert body.startswith(b"<!doctype html" if name == "report.html" else b"\x89PNG")
    assert reading("GET", "/artifacts/1/other.png")[0] == 404


def test_a_checkpoint_comes_as_a_tar_of_its_two_files(database: str, tmp_path: Path) -> None:
    with served(database) as ask:
        trials = json.loads(ask("GET", "/api/studies/1")[1])["trials"]
        place = f"/artifacts/1/{trials[0]['trial_id']}/{trials[0]['artifacts'][0]['artifact_id']}"
        status, body = ask("GET", place)
        assert status == 200
        assert ask("GET", f"/artifacts/1/{trials[1]['trial_id']}/checkpoint.tar")[0] == 404
        assert ask("GET", "/artifacts/1/99/checkpoint.tar")[0] == 404
        assert ask("GET", place, Host="evil.example")[0] == 403
        shutil.rmtree(tmp_path / "kept")
        assert ask("GET", place)[0] == 404
        (first, *_) = json.loads(ask("GET", "/api/studies/1")[1])["trials"]
        assert not first["artifacts"]
        assert "checkpoint" not in {attr["key"] for attr in first["user_attrs"]}
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    kept = {"s-0/manifest.json": b'{"format": 1, "size": 5120}', "s-0/model.safetensors": bytes(range(256)) * 20}
    assert found == kept


def test_a_confirmation_names_patterns_and_values(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path, "s.confirm", space=None)
    study.enqueue("0-2", 7)
    told(study)
    close_all()
    with served(f"{tmp_path}/db") as ask:
        (trial,) = json.loads(ask("GET", "/api/studies/1")[1])["trials"]
    assert trial["note"]["body"] == "- pattern **0-2**\n- acc: 0.7100\n- parameters: 1,300\n- seed: 7"


def test_nothing_is_written_by_reading(database: str) -> None:
    watching = sqlite3.connect(database)
    before = watching.execute("PRAGMA data_version").fetchone()
    pages = ("/api/studies", "/api/studies/1", "/api/studies/1/param_importances", "/csv/1", "/artifacts/1/layers.png")
    with served(database) as ask:
        for page in pages:
            ask("GET", page)
    assert watching.execute("PRAGMA data_version").fetchone() == before
    watching.close()
    storage = open_storage(parse_url(database), print, create=False)
    try:
        storage.set_study_user_attr(1, "a", 1)
        only_reading(storage)
        assert storage.get_study_user_attrs(1)["a"] == 1
        with pytest.raises(optuna.exceptions.StorageInternalError) as refused:
            storage.set_study_user_attr(1, "a", 2)
        assert "readonly" in str(refused.value.__cause__)
    finally:
        storage.engine.dispose()


def test_a_driver_writes_on_while_the_pages_are_read(tmp_path: Path) -> None:
    study = known_study(tmp_path)
    waited: list[str] = []
    study._storage.say = waited.append
    answers: list[int] = []
    written = threading.Event()
    with served(f"{tmp_path}/db") as ask:

        def read() -> None:
            while not written.is_set():
                answers.extend(ask("GET", page)[0] for page in ("/api/studies", "/api/studies/1", "/csv/1"))

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(12):
            told(study)
            time.sleep(0.05)  # so that pages are read before, between and after
        written.set()
        reader.join(60)
    finished = study.finished()
    close_all()
    assert finished == 12
    assert len(answers) >= 6
    assert set(answers) == {200}
    assert not waited


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


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which this machine does not have")
def test_chromium_shows_studies_front_note_and_weights(database: str, tmp_path: Path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--virtual-time-budget=20000", "--dump-dom"]

    with served(database) as ask:

        def opened(page: str) -> str:
            address = f"http://127.0.0.1:{ask.port}/dashboard{page}"  # type: ignore[attr-defined]
            done = subprocess.run(
                [str(CHROMIUM), *options, address], capture_output=True, text=True, timeout=90, check=True
            )
            return done.stdout

        assert "1. s" in opened("")
        front = opened("/studies/1")
        assert re.search(r'<path class="point"', front)
        for words in ("Pareto Front", "acc", "parameters", "Study Artifacts", "s-front.png"):
            assert words in front
        trial = opened("/studies/1/trials?numbers=0")
        for words in ("████", "complete, on the front", "layersearch export s --trial 0 --to s-0", "s-0.tar"):
            assert words in trial
        (link,) = (tag for tag in re.findall(r"<a [^>]*>", trial) if 'download="s-0.tar"' in tag)
        status, body = ask("GET", re.findall(r'href="([^"]+)"', link)[0])
        assert status == 200
        assert b"s-0/model.safetensors" in body
