"""The SQL database under a study: opening it and waiting for it.

Knows: SQLAlchemy URLs, SQLite's and PostgreSQL's locks, Optuna's `RDBStorage`. Does not know: what a study holds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import psutil
import sqlalchemy
from sqlalchemy import exc

from layersearch.errors import StudyError, WordsError
from layersearch.search.grouped import GroupedStorage

A_COPY = "a copy of the file (and of -wal beside it) in a folder that you can write"
BUSY_SECONDS = 60  # how long SQLite itself waits for a lock before our own patience takes over
SAY_AFTER = 3.0  # seconds of waiting before the user is told
SAY_EVERY = 60.0
LONGEST_PAUSE = 5.0
NOT_WRITABLE = (8, 14)  # SQLite's codes of a file that it may not write, or cannot make
SUPPORTED = ("sqlite", "postgresql")
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
    """A SQLAlchemy URL, or the path of an SQLite file; raises WordsError for anything else."""
    allowed = "give a file, sqlite:///FILE.db or postgresql://USER@HOST/NAME"
    if "://" not in text:
        return sqlalchemy.URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        url = sqlalchemy.make_url(text)
    except exc.ArgumentError:
        raise WordsError(f"the storage URL cannot be read; {allowed}") from None
    if url.get_backend_name() not in SUPPORTED:
        raise WordsError(
            f"--storage {url.drivername}://... is not possible: studies lie in SQLite files or in PostgreSQL; {allowed}"
        )
    return url


def sqlite_file(url: sqlalchemy.URL) -> Path | None:
    """The file behind an SQLite URL, None for servers. Raises WordsError for a database in memory."""
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:" or "mode=memory" in str(url):
        raise WordsError("an SQLite database in memory is lost with the process; give sqlite:///FILE.db")
    return Path(url.database.removeprefix("file:")).absolute()


def shown(url: sqlalchemy.URL) -> str:
    """The URL without its password, for messages."""
    return url.render_as_string(hide_password=True)


def open_storage(url: sqlalchemy.URL, say: Say, *, create: bool, reading: bool = False) -> PatientStorage:
    """Open the database; `create` makes an SQLite file that is not there, one for `reading` need not be writable.

    SQLite runs in WAL mode with a busy timeout of 60 s and synchronous=FULL, its default: what is told survives a power
    cut (0.17 ms a commit instead of 0.01). Servers get `pool_pre_ping`. Raises StudyError with the reason when the
    database cannot be opened; the password is never shown.
    """
    file, opened = sqlite_file(url), url
    if file is not None:
        _check_file(file, say, create=create)
        if not reading and file.exists() and not os.access(file, os.W_OK):  # which SQLite says at the first write only
            raise StudyError(
                f"the storage {file} may not be written; name another place with --storage, such as {A_COPY}"
            )
    kwargs: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if file else {"pool_pre_ping": True}
    logging.getLogger("alembic").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if file is not None:
            opened = _in_wal(url, file, reading=reading)
        storage = PatientStorage(opened.render_as_string(hide_password=False), kwargs, say)
    except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        way = ""
        if _is_not_writable(error):
            copy = "" if create else f", such as {A_COPY}"
            way = f"; name another place with --storage{copy}"
        raise StudyError(f"the storage {shown(url)} cannot be opened: {_reason(error)}{way}") from None
    except (ImportError, RuntimeError) as error:
        raise StudyError(f"the storage {shown(url)} cannot be opened: {str(error).splitlines()[0]}") from None
    return storage


def _check_file(file: Path, say: Say, *, create: bool) -> None:
    if not create and not file.exists():
        raise StudyError(f"there is no study database {file}; name the one that `layersearch run` made with --storage")
    if not file.parent.is_dir():
        raise StudyError(
            f"the storage {file} cannot be opened: the folder {file.parent} does not exist; make it, or "
            "name another place with --storage"
        )
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    home = next((str(p) for p in file.parents if str(p) in mounts), "/")
    if mounts.get(home, "").lower() in NETWORK_FILE_SYSTEMS:
        say(f"warning: {file} lies on a network file system ({mounts[home]}), where SQLite's locks cannot be trusted")


def _in_wal(url: sqlalchemy.URL, file: Path, *, reading: bool) -> sqlalchemy.URL:
    """The URL to open, its file in WAL mode; for `reading` a file that may not be written is left as it is."""
    try:
        _use_wal(file)
    except exc.OperationalError as error:
        if not reading or not _is_not_writable(error):
            raise
        # SQLite would make files beside it; what it has in those that are there it reads, if it can
        left = file.with_name(f"{file.name}-wal")
        whole = {} if left.exists() and left.stat().st_size else {"immutable": "1"}
        query = {"mode": "ro", "uri": "true", **whole}
        return sqlalchemy.URL.create("sqlite", database=f"file:{quote(str(file))}", query=query)
    return url


def _is_not_writable(error: BaseException) -> bool:
    """Whether SQLite failed because it may not write the file, or make one beside it."""
    cause = error if isinstance(error, exc.SQLAlchemyError) else error.__cause__
    code = getattr(getattr(cause, "orig", None), "sqlite_errorcode", 0)
    return code & 0xFF in NOT_WRITABLE


def _use_wal(file: Path) -> None:
    """Switch the file to WAL once, before Optuna's first connection; the mode stays with the file."""
    engine = sqlalchemy.create_engine(
        sqlalchemy.URL.create("sqlite", database=str(file)), connect_args={"timeout": BUSY_SECONDS}
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    engine.dispose()
