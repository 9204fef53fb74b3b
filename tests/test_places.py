"""Places that cannot be written, or can only be read: one line before anything is made, and a way on.

Knows: commands and folders without rights. Does not know: how files are written, what is in a database.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layersearch.durable import unwritable
from tests.conftest import Said, TinyRun, call

NOBODY = 65534


def failed(said: Said, code: int = 1) -> str:
    assert said.code == code, said
    assert said.out == ""
    return said.err.splitlines()[-1]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of which others may see what is in it, as pytest's own lets nobody."""
    with tempfile.TemporaryDirectory(prefix="layersearch-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


@pytest.fixture
def without_rights(open_folder: Path) -> Iterator[Path]:
    """The process as somebody who is not root, in a folder in which nothing can be made."""
    before = os.geteuid()
    open_folder.chmod(0o555)
    if before == 0:
        os.seteuid(NOBODY)
    yield open_folder
    os.seteuid(before)


def test_a_place_is_writable_where_a_folder_can_be_made(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "new" / "folder") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "file" / "folder") == "Not a directory"
    assert unwritable(Path("/proc/folder")) is not None


def test_a_folder_without_rights_is_not(without_rights: Path) -> None:
    assert unwritable(without_rights / "new") == "Permission denied"


@pytest.mark.parametrize(
    ("files", "reason"), [("taken/files", "Not a directory"), ("/proc/files", "No such file or directory")]
)
def test_files_that_cannot_be_written_are_said_before_there_is_a_database(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    Path("t.csv").write_text("pattern,score\n0-3,1\n0-2,0.5\n")
    place = ("--storage", "s.db", "--files", files, "--workers", "0")
    line = f"error: cannot write {files}: {reason}; name another place with --files"
    assert failed(call("run", *tiny_run.what, "--trials", "1", *place)) == line
    assert failed(call("run", "--replay", "t.csv", *place[:4])) == line
    assert not Path("s.db").exists()
    own = shutil.copy(tiny_run.storage, "own.db")
    assert failed(call("confirm", "tiny", "--seeds", "2", "--storage", own, "--files", files)) == line


def test_an_export_that_cannot_be_written_is_said_before_a_model_is_read(tiny_run: TinyRun) -> None:
    line = failed(call("export", "tiny", "--storage", tiny_run.storage, "--trial", "0", "--to", "/proc/out"))
    assert line == "error: cannot write /proc/out: No such file or directory; choose another folder"


def test_a_study_that_may_only_be_read_is_read(
    tiny_run: TinyRun, open_folder: Path, request: pytest.FixtureRequest
) -> None:
    """Its database is in WAL mode, which wants files beside it; its files are another's, whom they are closed to."""
    own = open_folder / "a ?#%41 study.db"
    shutil.copy(tiny_run.storage, own)
    own.chmod(0o444)
    request.getfixturevalue("without_rights")
    for command in ("front", "front --json", "best --knee", "show --trial 0"):
        name, *words = command.split()
        said = call(name, "tiny", *words, "--storage", own)
        assert (said.code, said.err) == (0, ""), said
        assert "0-3" in said.out
    assert [file.name for file in open_folder.iterdir()] == [own.name]


def test_a_database_that_cannot_be_made_names_a_way_on(open_folder: Path, request: pytest.FixtureRequest) -> None:
    table = open_folder / "t.csv"
    table.write_text("pattern,score\n0-3,1\n0-2,0.5\n")
    request.getfixturevalue("without_rights")
    words = ("--storage", open_folder / "s.db", "--files", tempfile.gettempdir())
    line = failed(call("run", "--replay", table, *words))
    assert line.endswith("s.db cannot be opened: unable to open database file; name another place with --storage")


def test_what_is_not_in_the_file_yet_is_never_left_out(
    tiny_run: TinyRun, open_folder: Path, request: pytest.FixtureRequest
) -> None:
    """The latest of a database that is being written lies beside it, and reading that wants files of SQLite's own."""
    own = shutil.copy(tiny_run.storage, open_folder / "own.db")
    writer = sqlite3.connect(own)
    writer.execute("CREATE TABLE last (told)")
    shutil.copy(f"{own}-wal", open_folder / "kept")
    writer.close()  # which would take it into the file
    shutil.copy(tiny_run.storage, own)
    (open_folder / "kept").rename(f"{own}-wal")
    request.getfixturevalue("without_rights")
    line = failed(call("front", "tiny", "--storage", own))
    assert "own.db cannot be opened: " in line
    assert line.endswith(
        "; name another place with --storage, such as a copy of the file (and of -wal beside it) in a folder that you "
        "can write"
    )


def test_only_databases_that_hold_studies_are_named() -> None:
    assert failed(call("front", "--storage", "mysql://me:secret@host/db"), 2) == (
        "error: --storage mysql://... is not possible: studies lie in SQLite files or in PostgreSQL; give a file, "
        "sqlite:///FILE.db or postgresql://USER@HOST/NAME"
    )
