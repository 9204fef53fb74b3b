"""Where the process of a command begins and ends: from its first moment on a stop is one line and exit 130.

Knows: signals. Does not know: any command. `cli.py` is imported only once a stop is waited for.
"""

from __future__ import annotations

import atexit
import signal
import sys
from typing import TYPE_CHECKING

from layersearch.errors import EXIT_STOPPED

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_SOON = 0.05  # seconds until a stop that got lost in a callback is tried again


def main() -> None:
    """Run the command line. A stop that nothing inside answers is one line and exit 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends whatever Ctrl-C ends, as that does
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # runs last, when only Python's own end is left
    usual = sys.unraisablehook

    def tried_again(lost: UnraisableHookArgs) -> None:
        """A stop that came in a callback, whose errors Python only prints."""
        if lost.exc_type is not KeyboardInterrupt:
            usual(lost)
            return
        from threading import Timer, main_thread

        Timer(_SOON, signal.pthread_kill, (main_thread().ident, signal.SIGINT)).start()  # which wakes it, too

    sys.unraisablehook = tried_again
    try:
        from layersearch.cli import main as command

        command()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    finally:
        sys.unraisablehook = usual
