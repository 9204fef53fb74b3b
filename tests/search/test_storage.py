"""The database under a study: URLs, waiting, leases. Real SQLite; a real PostgreSQL where its binaries are."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, exc

from layersearch.errors import StudyError, WordsError
from layersearch.search import storage as module
from layersearch.search.lease import turn_before
from layersearch.search.storage import open_storage, parse_url, shown, sqlite_file
from tests.search.support import open_study, outcome_of


def silent(_line: str) -> None:
    """Nobody listens."""


def test_a_plain_path_is_an_sqlite_file(tmp_path: Path) -> None:
    assert sqlite_file(parse_url(f"{tmp_path}/a.db")) == tmp_path / "a.db"
    assert sqlite_file(parse_url(f"sqlite:///{tmp_path}/a.db")) == tmp_path / "a.db"
    assert sqlite_file(parse_url("postgresql://me@host/name")) is None


def test_sqlite_runs_in_wal_mode_and_waits_for_a_minute(tmp_path: Path) -> None:
    storage = open_storage(parse_url(f"{tmp_path}/a.db"), silent, create=True)
    with storage.engine.connect() as connection:
        read = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "busy_timeout")
        }
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    assert read == {"journal_mode": "wal", "busy_timeout": 60_000}
    assert synchronous == 2  # FULL: what is told survives a power cut


def test_trials_are_read_as_of_one_moment(tmp_path: Path) -> None:
    """What another process adds while the tables are read, one after another, is left for the next time."""
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.enqueue("0-2", 0)
    reading, writing = (open_storage(parse_url(f"{tmp_path}/db"), silent, create=False) for _ in range(2))
    written: list[int] = []

    def write(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT") and not written:
            written.append(writing.create_new_trial(1))
            writing.set_trial_user_attr(written[0], "pattern", "0-1")

    event.listen(reading.engine, "after_cursor_execute", write)
    try:
        first, second = ([trial._trial_id for trial in reading._get_trials(1, None, set(), -1)] for _ in range(2))
    finally:
        reading.engine.dispose()
        writing.engine.dispose()
    assert second == [*first, *written]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense://", "SQLite files or in PostgreSQL; give a file"),
        ("://", "cannot be read; give a file, sqlite:///FILE.db"),
        ("sqlite://", "in memory is lost with the process"),
        ("missing-folder/a.db", "the folder .*missing-folder does not exist"),
        (
            "postgresql+psycopg://me:secret@127.0.0.1:1/x",
            r"storage postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/x cannot",
        ),
    ],
)
def test_a_storage_that_cannot_be_opened_is_said_in_one_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((StudyError, WordsError), match=message) as caught:
        open_storage(parse_url(text), silent, create=True)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("this is no database" * 100)
    with pytest.raises(StudyError, match="file is not a database"):
        open_storage(parse_url(f"{tmp_path}/a.db"), silent, create=True)


def test_reading_makes_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"there is no study database .*a\.db"):
        open_storage(parse_url(f"{tmp_path}/a.db"), silent, create=False)
    assert not (tmp_path / "a.db").exists()


def test_the_password_is_never_shown() -> None:
    assert "secret" not in shown(parse_url("postgresql://me:secret@host/name"))


def test_a_locked_database_is_waited_out_and_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAY_AFTER", 0.5)
    said: list[str] = []
    study = open_study(f"{tmp_path}/db", tmp_path, say=said.append)
    job = study.ask()
    assert job is not None
    blocker = sqlite3.connect(tmp_path / "db", check_same_thread=False)
    blocker.execute("BEGIN EXCLUSIVE")
    threading.Timer(2.5, blocker.rollback).start()
    began = time.monotonic()
    study.tell(outcome_of(job))
    assert time.monotonic() - began > 2
    assert study.finished() == 1
    assert len(said) == 1
    assert "waiting for the database, locked or away" in said[0]


def test_a_full_disk_is_said_as_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAY_AFTER", 0.3)
    said: list[str] = []
    study = open_study(f"{tmp_path}/db", tmp_path, say=said.append)
    storage = study._study._storage._backend  # type: ignore[attr-defined]
    failures = iter(range(4))

    def full(_self: object) -> str:
        if next(failures, None) is not None:
            raise exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
        return "done"

    assert module._patient(full)(storage) == "done"
    assert len(said) == 1
    assert "waiting for the database (database or disk is full)" in said[0]


def test_patience_outlasts_sqlites_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    study = open_study(f"{tmp_path}/db", tmp_path)
    blocker = sqlite3.connect(tmp_path / "db", check_same_thread=False)
    blocker.execute("BEGIN EXCLUSIVE")
    threading.Timer(1.5, blocker.rollback).start()
    job = study.ask()
    assert job is not None
    study.tell(outcome_of(job))
    assert study.finished() == 1


class Postgres:
    """A private server on a port of its own; the server refuses root, so root runs it as the user postgres."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql+psycopg://tester@127.0.0.1:{self.port}/postgres"
        self._call("initdb", "-D", str(folder / "data"), "-U", "tester", "--auth=trust", "--no-sync")

    def _call(self, program: str, *words: str) -> None:
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*prefix, str(self._binaries / program), *words], check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        """Start and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -h 127.0.0.1 -c fsync=off"
        self._call(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        """Cut every connection and stop."""
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")


def binaries_of_postgres() -> Path | None:
    """Where initdb and pg_ctl are, if this machine has them and a user who may run them."""
    found = [Path(p).parent for p in (shutil.which("pg_ctl"),) if p]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    usable = [folder for folder in found if (folder / "initdb").exists()]
    if not usable or (os.geteuid() == 0 and not shutil.which("runuser")):
        return None
    return usable[0]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    binaries = binaries_of_postgres()
    if binaries is None:
        pytest.skip("no PostgreSQL server binaries on this machine")
    folder = Path("/tmp") / f"ls-pg-{os.getpid()}"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    try:
        server = Postgres(binaries, folder)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_restart_of_postgres_is_waited_out(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAY_AFTER", 0.5)
    said: list[str] = []
    study = open_study(postgres.url, tmp_path, say=said.append)
    job = study.ask()
    assert job is not None
    postgres.stop()
    threading.Timer(2.0, postgres.start).start()
    study.tell(outcome_of(job))
    again = study.ask()
    assert again is not None
    study.tell(outcome_of(again))
    assert study.finished() == 2
    assert [line for line in said if "waiting for the database" in line]
    assert not study._lease.is_left(
        study._ledger.trial(job.number).user_attrs["driver"], None
    )  # the lock of this driver was taken again


def test_several_drivers_share_a_study_on_postgres_and_the_dead_are_told_from_the_living(
    postgres: Postgres, tmp_path: Path
) -> None:
    first = open_study(postgres.url, tmp_path / "first")
    left = first.ask()
    second = open_study(postgres.url, tmp_path / "second")
    job = second.ask()
    assert left is not None
    assert job is not None
    assert job.pattern != left.pattern
    assert second.heal() == 0  # the first lives
    first._lease.release()
    assert second.heal() == 1


def test_drivers_on_postgres_begin_a_study_one_at_a_time(postgres: Postgres) -> None:
    storage = open_storage(parse_url(postgres.url), lambda _: None, create=True)
    entered: list[str] = []

    def begin() -> None:
        with turn_before(storage, "s"):
            entered.append("second")

    with turn_before(storage, "s"):
        second = threading.Thread(target=begin)
        second.start()
        second.join(0.3)
        entered.append("first")
    second.join(10)
    storage.engine.dispose()
    assert entered == ["first", "second"]


def test_a_study_on_postgres_can_have_a_sole_driver(postgres: Postgres, tmp_path: Path) -> None:
    """A search with a super-network needs one; the claim comes back after a restart, unless somebody else has it."""
    first = open_study(postgres.url, tmp_path / "first", alone=True)
    assert first._lease.alone
    with pytest.raises(StudyError, match=r"is being driven by another process \(the test\).*--method fine-tune"):
        open_study(postgres.url, tmp_path / "second", alone=True)
    postgres.stop()
    postgres.start()
    assert first.ask() is not None
    with pytest.raises(StudyError, match="is being driven by another process"):
        open_study(postgres.url, tmp_path / "second", alone=True)
    first._lease.release()
    second = open_study(postgres.url, tmp_path / "second", alone=True)
    assert second.rows()[-1].state == "WAITING"  # what the first left is queued again
    for _ in range(2):
        with pytest.raises(StudyError, match="another process drives study 's' since the database was away"):
            first.ask()


def test_a_database_that_may_only_be_read_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in WAL mode says so at the first write alone, after minutes of training."""
    url = parse_url(f"{tmp_path}/db")
    open_storage(url, print, create=True).engine.dispose()
    monkeypatch.setattr("layersearch.search.storage.os.access", lambda _, mode: mode != os.W_OK)
    with pytest.raises(
        StudyError, match=r"db may not be written; name another place with --storage, such as a copy of"
    ):
        open_storage(url, print, create=True)
    open_storage(url, print, create=False, reading=True).engine.dispose()
