"""optuna-dashboard over a study's database, on this machine only and read-only unless asked otherwise.

Knows: WSGI, optuna-dashboard's app and the addresses of its interface, what makes a connection only read. Does not
know: what a study says, models. The app has no authentication, checks no Host header and would let anyone delete a
study (FACTS.md 3.6), so it is wrapped: only GET and HEAD, only for this machine, and the database itself refuses to be
written. What it shows beside what Optuna keeps is made for the page (`dressing.py`, `artifacts.py`), stored nowhere.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from layersearch.errors import LayersearchError, StudyError
from layersearch.report.artifacts import CHECKPOINT, Artifact, artifact_of, checkpoint_of_trial
from layersearch.report.commands import place_of
from layersearch.report.dressing import dress_studies, dress_study
from layersearch.search.question import How
from layersearch.search.record import Record, read_study
from layersearch.search.storage import PatientStorage, open_storage, parse_url

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

HOST = "127.0.0.1"
FRESH_SECONDS = 5.0  # for so long a study is not read again; optuna-dashboard waits 2 to 10
_LOCAL_NAMES = {"127.0.0.1", "localhost"}
_STUDY = re.compile(r"/api/studies/(\d+)")
_ARTIFACT = re.compile(r"/artifacts/(\d+)/(?:(\d+)/)?([a-z]+\.[a-z]+)")
_ONLY_READS = {
    "sqlite": "PRAGMA query_only=ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """One line a request helps nobody here."""


def guarded(app: WSGIApplication, *, writable: bool) -> WSGIApplication:
    """`app` behind two checks: the Host header names this machine, and (unless `writable`) the method only reads."""

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").rsplit(":", 1)[0]
        if host not in _LOCAL_NAMES:
            return _refuse(start_response, "this dashboard answers only under 127.0.0.1 and localhost")
        if not writable and environ["REQUEST_METHOD"] not in ("GET", "HEAD", "OPTIONS"):
            return _refuse(
                start_response, "this dashboard is read-only; layersearch dashboard --writable allows changes"
            )
        return app(environ, start_response)

    return answer


def _refuse(start_response: StartResponse, reason: str) -> Iterable[bytes]:
    start_response("403 Forbidden", [("Content-Type", "application/json")])
    return [f'{{"reason": "{reason}"}}'.encode()]


@dataclass(frozen=True)
class Studies:
    """The studies of one database as records, each read at most every `FRESH_SECONDS`."""

    storage: PatientStorage
    text: str
    say: Callable[[str], None]
    known: dict[str, tuple[float, Record]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The words that name the database in a command."""
        return place_of(self.text, How.storage)

    def record(self, study_id: int) -> Record | None:
        """A study of ours; None for a confirmation, for shared scores, for studies of others and for none at all."""
        try:
            name = self.storage.get_study_name_from_id(study_id)
            read, record = self.known.get(name, (0.0, None))
            if record is None or time.monotonic() - read > FRESH_SECONDS:
                record = read_study(self.text, name, self.say)
                self.known[name] = time.monotonic(), record
        except (KeyError, LayersearchError):
            return None
        return record if "num_layers" in record.facts else None  # a driver has only just made it

    def artifact(self, study_id: int, trial_id: int | None, name: str) -> Artifact | None:
        """A file of a study, or of one of its trials; None for what is not there."""
        record = self.record(study_id)
        if record is None:
            return None
        if trial_id is None:
            return artifact_of(record, name, self.place)
        known = self.storage.get_all_trials(study_id, deepcopy=False) if name == CHECKPOINT else []
        number = next((trial.number for trial in known if trial._trial_id == trial_id), None)
        return None if number is None else checkpoint_of_trial(record, number)


def dressed(app: WSGIApplication, studies: Studies) -> WSGIApplication:
    """`app` with what `dressing.py` adds to its answers, and with the files that it lists."""

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] != "GET":
            return app(environ, start_response)
        if found := _ARTIFACT.fullmatch(path):
            file = studies.artifact(int(found[1]), int(found[2]) if found[2] else None, found[3])
            return app(environ, start_response) if file is None else _send(start_response, file)
        if path in ("/api/meta", "/api/studies") or _STUDY.fullmatch(path):
            return _answer_dressed(app, environ, start_response, studies)
        return app(environ, start_response)

    return answer


def _send(start_response: StartResponse, file: Artifact) -> Iterable[bytes]:
    headers = [("Content-Type", file.mimetype), ("Content-Length", str(file.length))]
    start_response("200 OK", [*headers, ("X-Content-Type-Options", "nosniff")])
    return file.pieces


def _answer_dressed(
    app: WSGIApplication, environ: dict[str, Any], start_response: StartResponse, studies: Studies
) -> Iterable[bytes]:
    """The app's answer, with what is added to it where it is one."""
    held: list[Any] = []
    body = b"".join(app(environ, lambda *said: held.append(said)))  # type: ignore[arg-type]
    status, headers, *more = held[-1]
    if status.startswith("200"):
        body = _dress(environ["PATH_INFO"], json.loads(body), studies)
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        headers.append(("Content-Length", str(len(body))))
    start_response(status, headers, *more)
    return [body]


def _dress(path: str, answer: dict[str, Any], studies: Studies) -> bytes:
    if found := _STUDY.fullmatch(path):
        study_id = int(found[1])
        dress_study(answer, study_id, studies.record(study_id), studies.place)
    elif path == "/api/meta":
        answer["artifact_is_available"] = True
    else:
        dress_studies(answer)
    return json.dumps(answer).encode()


def only_reading(storage: PatientStorage) -> None:
    """Let no connection of `storage` write from here on: the database refuses it, whatever the app tries."""
    from sqlalchemy import event

    words = _ONLY_READS.get(storage.engine.dialect.name)
    if words is None:
        return

    def forbid(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(words)
        cursor.close()
        connection.commit()

    storage.scoped_session.remove()
    storage.engine.dispose()
    event.listen(storage.engine, "connect", forbid)


def serve(storage_text: str, port: int, *, writable: bool, say: Callable[[str], None]) -> None:
    """Serve the dashboard until Ctrl-C. Raises StudyError for a storage that cannot be opened or a taken port."""
    from optuna_dashboard import wsgi

    storage = open_storage(parse_url(storage_text), say, create=False)
    if not writable:
        only_reading(storage)
    app = guarded(dressed(wsgi(storage), Studies(storage, storage_text, say)), writable=writable)
    try:
        server = make_server(HOST, port, app, server_class=_Server, handler_class=_QuietHandler)
    except OSError as error:
        raise StudyError(
            f"port {port} cannot be used ({error.strerror}); name another with --port, or 0 for any"
        ) from None
    mode = "read and write" if writable else "read-only"
    say(f"dashboard at http://{HOST}:{server.server_port}/ ({mode}, this machine only); Ctrl-C ends it")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
