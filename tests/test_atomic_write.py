"""Files that other processes may be reading are replaced in one step."""

from pathlib import Path

import pytest

from attnbench.atomic_write import write_atomically


@pytest.mark.parametrize(("data", "stored"), [("µs\n", "µs\n".encode()), (b"\x00\xff", b"\x00\xff")])
def test_a_file_is_created_or_replaced_as_a_whole(tmp_path, data, stored):
    """Text is stored as UTF-8 and bytes unchanged, whether or not the file exists, and no temporary file is left."""
    path = tmp_path / "file.json"
    for _ in range(2):
        write_atomically(path, data)
        assert path.read_bytes() == stored
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    """If the disk is full or the file can't be renamed, the old content is kept and no temporary file is left."""
    path = tmp_path / "file.json"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_error(tmp_path):
    """A missing folder raises FileNotFoundError and is not created, because the caller must choose its permissions."""
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file.json", "text")
