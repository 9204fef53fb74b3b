"""The SQL database under a study: opening it, waiting for it, and knowing who drives it.

Knows: SQLAlchemy URLs, SQLite's and PostgreSQL's locks, Optuna's `RDBStorage`. Does not know: what a study holds.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import filelock
import optuna
import psutil
import sqlalchemy
from sqlalchemy import exc

from layersearch.errors import StudyError
from layersearch.search.grouped import GroupedStorage

BUSY_SECONDS = 60  # how long SQLite itself waits for a lock before our own patience takes over
SAY_AFTER = 3.0  # seconds of waiting before the user is told
SAY_EVERY = 60.0
LONGEST_PAUSE = 5.0
UNOWNED = timedelta(minutes=1)  # longer than asking takes, after which a trial has its owner
NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb", "smbfs", "smb3", "afs", "9p", "fuse.sshfs", "lustre", "beegfs"}

Say = Callable[[str], None]

# Every call that reaches the database goes through one of these (optuna/storages/_cached_storage.py names them).
_CALLS = (
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "_create_new_trial",
    "_set_trial_param",
    "get_trial_id_from_study_id_trial_number",
    "set_trial_state_values",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial",
    "_get_trials",
    "write_trial",
)


class PatientStorage(GroupedStorage):
    """Optuna's SQL storage, every call of which waits while the database is locked, full, restarting or away.

    `say` gets one line after `SAY_AFTER` seconds of waiting and one every `SAY_EVERY` seconds from then on.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any], say: Say) -> None:
        super().__init__(url, engine_kwargs=engine_kwargs)
        self.say = say
        self.waiting_since: float | None = None
        self.waiting_for = ""
        threading.Thread(target=_tell_when_slow, args=(weakref.ref(self),), daemon=True).start()


def _tell_when_slow(storage: weakref.ref[PatientStorage]) -> None:
    """Watch one storage from a thread of its own, as long as it lives: a call that hangs in C cannot speak itself."""
    told = 0.0
    while (watched := storage()) is not None:
        since, say, reason = watched.waiting_since, watched.say, watched.waiting_for
        del watched
        now = time.monotonic()
        if since is not None and now - since > SAY_AFTER and (told < since or now - told > SAY_EVERY):
            say(f"waiting for the database{reason or ', locked or away'} for {now - since:.0f} s; nothing is lost")
            told = now
        time.sleep(SAY_AFTER / 6)


def _patient(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def waiting(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        pause = 0.1
        self.waiting_since = time.monotonic()
        try:
            while True:
                try:
                    return call(self, *args, **kwargs)
                except (optuna.exceptions.StorageInternalError, exc.SQLAlchemyError) as error:
                    if not _passes(error):
                        raise
                    self.waiting_for = f" ({_reason(error)})"
                self.scoped_session.remove()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self.waiting_since, self.waiting_for = None, ""

    return waiting


def _reason(error: BaseException) -> str:
    """The driver's own first line for what Optuna or SQLAlchemy raised."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    return next(iter(str(getattr(cause, "orig", None) or cause or error).strip().splitlines()), "no reason given")


for _name in _CALLS:
    setattr(PatientStorage, _name, _patient(getattr(GroupedStorage, _name)))


def _passes(error: BaseException) -> bool:
    """Whether waiting can help: a locked or full SQLite file, a server that is restarting or away."""
    cause = error if isinstance(error, exc.SQLAlchemyError) else error.__cause__
    if isinstance(cause, exc.DBAPIError) and cause.connection_invalidated:
        return True
    if not isinstance(cause, exc.OperationalError | exc.InterfaceError):
        return False
    text = str(cause.orig).lower()
    if "sqlite" in type(cause.orig).__module__:
        return any(word in text for word in ("locked", "busy", "full"))
    return True


def parse_url(text: str) -> sqlalchemy.URL:
    """A SQLAlchemy URL, or the path of an SQLite file; raises StudyError for anything else."""
    if "://" not in text:
        return sqlalchemy.URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        return sqlalchemy.make_url(text)
    except exc.ArgumentError:
        raise StudyError(
            "the storage URL cannot be read; give sqlite:///FILE.db, postgresql://USER@HOST/NAME or any SQLAlchemy URL"
        ) from None


def sqlite_file(url: sqlalchemy.URL) -> Path | None:
    """The file behind an SQLite URL, None for servers. Raises StudyError for a database in memory."""
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:" or "mode=memory" in str(url):
        raise StudyError("an SQLite database in memory is lost with the process; give sqlite:///FILE.db")
    return Path(url.database.removeprefix("file:")).absolute()


def shown(url: sqlalchemy.URL) -> str:
    """The URL without its password, for messages."""
    return url.render_as_string(hide_password=True)


def open_storage(url: sqlalchemy.URL, say: Say, *, create: bool) -> PatientStorage:
    """Open the database; `create` makes an SQLite file that is not there.

    SQLite runs in WAL mode with a busy timeout of 60 s and synchronous=FULL, its default: what is told survives a power
    cut (0.17 ms a commit instead of 0.01). Servers get `pool_pre_ping`. Raises StudyError with the reason when the
    database cannot be opened; the password is never shown.
    """
    file = sqlite_file(url)
    if file is not None:
        _check_file(file, say, create=create)
    kwargs: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if file else {"pool_pre_ping": True}
    logging.getLogger("alembic").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if file is not None:
            _use_wal(file)
        storage = PatientStorage(url.render_as_string(hide_password=False), kwargs, say)
    except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StudyError(f"the storage {shown(url)} cannot be opened: {_reason(error)}") from None
    except (ImportError, RuntimeError) as error:
        raise StudyError(f"the storage {shown(url)} cannot be opened: {str(error).splitlines()[0]}") from None
    return storage


def _check_file(file: Path, say: Say, *, create: bool) -> None:
    if not create and not file.exists():
        raise StudyError(f"there is no study database {file}; name the one that `layersearch run` made with --storage")
    if not file.parent.is_dir():
        raise StudyError(f"the storage {file} cannot be opened: the folder {file.parent} does not exist")
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    home = next((str(p) for p in file.parents if str(p) in mounts), "/")
    if mounts.get(home, "").lower() in NETWORK_FILE_SYSTEMS:
        say(f"warning: {file} lies on a network file system ({mounts[home]}), where SQLite's locks cannot be trusted")


def _use_wal(file: Path) -> None:
    """Switch the file to WAL once, before Optuna's first connection; the mode stays with the file."""
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(file)), connect_args={"timeout": BUSY_SECONDS}
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    engine.dispose()


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
        key = _key(f"turn of {study}")
        try:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.scalar(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(key)))
        except exc.SQLAlchemyError:  # away: asking itself waits for it
            yield
            return
        try:
            yield
        finally:
            connection.close()

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


def take_lease(storage: PatientStorage, url: sqlalchemy.URL, study: str, holder: str, *, alone: bool = False) -> Lease:
    """Claim to drive `study`: alone on SQLite, beside others on PostgreSQL unless `alone`.

    `holder` is who the study says drives it, for the message. Raises StudyError when another process does.
    """
    lease = Lease(owner=f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")
    file = sqlite_file(url)
    if file is not None:
        mark = hashlib.sha256(study.encode()).hexdigest()[:8]
        lock = filelock.FileLock(f"{file}.{mark}.lock")
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
