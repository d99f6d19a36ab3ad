"""Files are written whole or not at all; locks refuse a second process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geodtr_lib.errors import RunError
from geodtr_lib.files import digest, locked, read_json, whole_file, write_bytes, write_json


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
