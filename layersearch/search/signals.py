"""Ctrl-C and SIGTERM end a search cleanly.

Knows: signals, and that a driver stops when it is told. Does not know: what the driver does then.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from layersearch.errors import StoppedError
from layersearch.search.driver import Driver

STOPPED = "stopped; every finished trial is in the study. The same command goes on from here"


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C, and what else raises KeyboardInterrupt, ends what runs inside at once; raises StoppedError then."""
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(STOPPED) from None


@contextmanager
def stopped_by_signals(driver: Driver) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops the driver cleanly; a second Ctrl-C is Python's own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        driver.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        driver.watcher.say("stopping: what runs is queued again, what is finished is kept")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
