"""optuna-dashboard over a study's database, on this machine only and read-only unless asked otherwise.

Knows: WSGI and optuna-dashboard's app. Does not know: what a study holds. The app has no authentication, checks no Host
header and would let anyone delete a study (FACTS.md 3.6), so it is wrapped: only GET and HEAD, only for this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from layersearch.errors import StudyError
from layersearch.search.storage import open_storage, parse_url

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

HOST = "127.0.0.1"
_LOCAL_NAMES = {"127.0.0.1", "localhost"}


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


def serve(storage_text: str, port: int, *, writable: bool, say: Callable[[str], None]) -> None:
    """Serve the dashboard until Ctrl-C. Raises StudyError for a storage that cannot be opened or a taken port."""
    from optuna_dashboard import wsgi

    storage = open_storage(parse_url(storage_text), say, create=False)
    try:
        server = make_server(
            HOST, port, guarded(wsgi(storage), writable=writable), server_class=_Server, handler_class=_QuietHandler
        )
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
