"""Files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from layersearch.durable import whole_file


def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with whole_file(target) as stream:
        stream.write(b"half")
        stream.flush()
        assert not target.exists()
        stream.write(b" and whole")
    assert target.read_bytes() == b"half and whole"
    assert list(target.parent.iterdir()) == [target]


def test_what_raises_leaves_what_stood_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), whole_file(target) as stream:
        stream.write("not bytes")  # type: ignore[call-overload]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
