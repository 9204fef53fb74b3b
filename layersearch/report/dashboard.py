"""optuna-dashboard over a study's database, on this machine only and read-only unless asked otherwise.

Knows: WSGI, optuna-dashboard's app, the attributes of a trial. Does not know: SQL, models. The app has no
authentication, checks no Host header and would let anyone delete a study (FACTS.md 3.6), so it is wrapped: only GET and
HEAD, only for this machine. It also shows a trial's values without their names, so each trial gets a note that names
them; the note is made for the page and is not stored. Where a trial's checkpoint is gone, it is not named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from layersearch.errors import StudyError
from layersearch.search.objectives import COSTS
from layersearch.search.storage import open_storage, parse_url

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

HOST = "127.0.0.1"
_LOCAL_NAMES = {"127.0.0.1", "localhost"}
_STUDY_PAGE = re.compile(r"/api/studies/\d+")


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


def with_notes(app: WSGIApplication) -> WSGIApplication:
    """`app` with a note on every trial of ours that has none: pattern, named scores, interval, or why it failed."""

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or not _STUDY_PAGE.fullmatch(environ.get("PATH_INFO", "")):
            return app(environ, start_response)
        held: list[Any] = []
        body = b"".join(app(environ, lambda *said: held.append(said)))  # type: ignore[arg-type]
        status, headers, *more = held[-1]
        if status.startswith("200"):
            body = _noted(body)
            headers = [(k, v) for k, v in headers if k.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start_response(status, headers, *more)
        return [body]

    return answer


def _noted(body: bytes) -> bytes:
    study = json.loads(body)
    names = study.get("objective_names", [])
    for trial in [*study["trials"], *study["best_trials"]]:
        trial["user_attrs"] = [a for a in trial["user_attrs"] if a["key"] != "checkpoint" or Path(a["value"]).is_dir()]
        attrs = {attr["key"]: attr["value"] for attr in trial["user_attrs"]}
        if not trial["note"]["body"] and "pattern" in attrs:
            trial["note"]["body"] = "\n".join(
                f"- {line}" for line in _note_lines(attrs, trial.get("values") or [], names)
            )
    return json.dumps(study).encode()


def _note_lines(attrs: dict[str, str], values: list[float], names: list[str]) -> list[str]:
    """Markdown; `attrs` are as the dashboard sends them, every value as text."""
    lines = [f"pattern **{attrs['pattern']}**"]
    for name, value in zip(names, values, strict=False):
        cost = COSTS.get(name)
        lines.append(
            f"{name if cost is None else cost.title} **{f'{value:.4f}' if cost is None else cost.shown(value)}**"
        )
    if len(lines) > 1 and "interval" in attrs:
        low, high = json.loads(attrs["interval"])
        lines[1] += f" (95 % interval {low:.4f} to {high:.4f})"
    if "train_seconds" in attrs:
        lines.append(f"training {float(attrs['train_seconds']):.1f} s, seed {attrs.get('seed', '?')}")
    lines += [f"{key}: {attrs[key]}" for key in ("strategy", "reused", "reason", "note") if key in attrs]
    return lines


def serve(storage_text: str, port: int, *, writable: bool, say: Callable[[str], None]) -> None:
    """Serve the dashboard until Ctrl-C. Raises StudyError for a storage that cannot be opened or a taken port."""
    from optuna_dashboard import wsgi

    storage = open_storage(parse_url(storage_text), say, create=False)
    app = guarded(with_notes(wsgi(storage)), writable=writable)
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
