"""Who drives a study: a claim that dies with its process, alone or beside others.

Knows: file locks beside SQLite, PostgreSQL's advisory locks. Does not know: what a study holds,
how a database is opened.
"""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import filelock
import sqlalchemy
from sqlalchemy import exc

from layersearch.errors import StudyError
from layersearch.search.storage import PatientStorage, sqlite_file

UNOWNED = timedelta(minutes=1)  # longer than asking takes, after which a trial has its owner


@dataclass
class Lease:
    """This process's claim to drive a study, which dies with the process.

    `owner` names the process; it is written on every trial that this driver starts.
    """

    owner: str
    _file: filelock.BaseFileLock | None = None
    _engine: sqlalchemy.Engine | None = None
    _connection: sqlalchemy.Connection | None = field(default=None, repr=False)
    _sole: int | None = None  # the lock of a study on a server that one driver has alone

    def is_alive(self, owner: str) -> bool:
        """Whether the driver `owner` still runs. On SQLite only the holder of the file lock can."""
        if owner == self.owner:
            return True
        if self._engine is None or self.alone:
            return False
        with self._engine.connect() as connection:
            free = connection.scalar(sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(_key(owner))))
            if free:
                connection.scalar(sqlalchemy.select(sqlalchemy.func.pg_advisory_unlock(_key(owner))))
        return not free

    def is_left(self, owner: str | None, started: datetime | None) -> bool:
        """Whether nobody drives a running trial any more; it has no `owner` yet while it is being asked."""
        if owner is not None:
            return not self.is_alive(owner)
        return self.alone or started is None or datetime.now(started.tzinfo) - started > UNOWNED

    @property
    def alone(self) -> bool:
        """Whether no other driver can work on the study beside this one."""
        return self._engine is None or self._sole is not None

    @contextmanager
    def turn(self, study: str) -> Iterator[None]:
        """Where several drivers may ask, one at a time: what one chose, the next must see."""
        if self._engine is None or self.alone:
            yield
            return
        with _one_at_a_time(self._engine, f"turn of {study}"):
            yield

    def renew(self) -> bool:
        """Take the server's locks again if their connection was lost (a restart of the server).

        Returns whether no other process has taken what is to be this one's alone.
        """
        if self._engine is None:
            return True
        try:
            if self._connection is not None:
                self._connection.exec_driver_sql("SELECT 1")
                return True
        except exc.SQLAlchemyError:
            pass
        try:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            wanted = (_key(self.owner), *([self._sole] if self._sole is not None else []))
            locks = [sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(key)) for key in wanted]
            if all(self._connection.scalar(lock) for lock in locks):
                return True
            self._connection.close()
            self._connection = None  # so that the next call asks again
            return False
        except exc.SQLAlchemyError:
            self._connection = None  # still away; the next call tries again
            return True

    def release(self) -> None:
        """Give the claim back."""
        if self._file is not None:
            self._file.release()
        if self._connection is not None:
            self._connection.close()


@contextmanager
def _one_at_a_time(engine: sqlalchemy.Engine, what: str) -> Iterator[None]:
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.scalar(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(_key(what))))
    except exc.SQLAlchemyError:  # away: what is done inside waits for it
        yield
        return
    try:
        yield
    finally:
        connection.close()


@contextmanager
def turn_before(storage: PatientStorage, study: str) -> Iterator[None]:
    """Where several drivers may begin `study`, one at a time: what one measured, the next must find."""
    url = sqlalchemy.make_url(storage.url)
    if url.get_backend_name() != "postgresql":
        yield
        return
    # no pool: closing a connection must give its lock back
    with _one_at_a_time(sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool), f"beginning of {study}"):
        yield


def take_lease(storage: PatientStorage, url: sqlalchemy.URL, study: str, holder: str, *, alone: bool = False) -> Lease:
    """Claim to drive `study`: alone on SQLite, beside others on PostgreSQL unless `alone`.

    `holder` is who the study says drives it, for the message. Raises StudyError when another process does.
    """
    lease = Lease(owner=f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")
    file = sqlite_file(url)
    if file is not None:
        mark = hashlib.sha256(study.encode()).hexdigest()[:8]
        locks = file.with_name(f".{file.name}.locks")
        locks.mkdir(exist_ok=True)
        lock = filelock.FileLock(locks / f"{mark}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise _driven(study, holder) from None
        lease._file = lock
    elif url.get_backend_name() == "postgresql":
        # no pool: closing a connection must give its locks back
        lease._engine = sqlalchemy.create_engine(storage.url, poolclass=sqlalchemy.NullPool)
        lease._sole = _key(f"sole driver of {study}") if alone else None
        if not lease.renew():
            lease.release()
            raise _driven(study, holder)
    else:
        storage.say(
            f"warning: on {url.get_backend_name()} nothing keeps two drivers of one study apart; start only one"
        )
    return lease


def _driven(study: str, holder: str) -> StudyError:
    return StudyError(
        f"study {study!r} is being driven by another process ({holder}); wait for it or stop it. "
        "Several drivers at once need PostgreSQL and --method fine-tune"
    )


def _key(owner: str) -> int:
    return int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8], "big", signed=True)
