"""Files are written whole or not at all; locks refuse a second process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geodtr_lib.errors import RunError
from geodtr_lib.files import digest, is_held, locked, read_json, remove_leftovers, whole_file, write_bytes, write_json


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})

    def interrupted() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"cannot write .*value.json: No space left on device"):
        write_bytes(tmp_path / "value.json", b"x")
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file/run/config.json"):
        write_json(tmp_path / "file" / "run" / "config.json", {})
    with pytest.raises(RunError, match="cannot write"), locked(tmp_path / "file" / "run" / ".lock"):
        pass


def test_damaged_json_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"a": ')
    with pytest.raises(RunError, match=r"metrics.json is not readable as JSON .* remove it"):
        read_json(tmp_path / "metrics.json")
    with pytest.raises(RunError, match="does not exist"):
        read_json(tmp_path / "none.json")


def test_nan_is_not_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "v.json", {"r1": float("nan")})
    assert os.listdir(tmp_path) == []


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_lock_refuses_a_second_process_and_ends_with_the_first(tmp_path: Path) -> None:
    hold = "import sys; from geodtr_lib.files import locked\nwith locked(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    lock = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        with pytest.raises(RunError, match="in use by another process"), locked(lock):
            pass
        process.kill()
    with locked(lock):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fcntl = pytest.importorskip("fcntl")

    def has_none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", has_none)
    entered = False
    with pytest.warns(UserWarning, match="has no file locks .*; start one run at a time in it"), locked(tmp_path / ".lock"):
        entered = True
    assert entered
    assert not is_held(tmp_path / ".lock")


def test_only_what_the_library_writes_counts_as_left_over(tmp_path: Path) -> None:
    theirs = [".film.part", ".notes.txt.abc123.part", ".tmpAbCdEfGh", ".tmp-a b!", "state.pt.abc123.part"]
    for name in theirs:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".tmpAbCdEf").mkdir()
    (tmp_path / ".tmpLinked").symlink_to(tmp_path / theirs[0])
    with whole_file(tmp_path / "metrics.json") as temporary:
        temporary.write_bytes(b"{}")
    (tmp_path / "metrics.json").rename(temporary)  # as if the process had been killed before it could
    (tmp_path / ".tmp9Xox9K").write_bytes(b"half")  # safetensors' own
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*theirs, ".tmpAbCdEf", ".tmpLinked"])
