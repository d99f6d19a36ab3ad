"""What lies at a path: the same answers as pathlib's where it gives one, and one line where the file system refuses to look."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from miniature import make_cvact, make_cvusa

from geodtr_lib.data.cvact import find_cvact
from geodtr_lib.data.cvusa import find_cvusa
from geodtr_lib.data.folders import Tree
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.lookup import exists, expanded, is_file, is_folder, town_maps, town_of


def forbid(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Nothing below a path may be looked at; for the user root, who may do everything, that must be made up."""
    stat = os.stat

    def checked(what: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(what).startswith(f"{path}{os.sep}"):
            raise PermissionError(errno.EACCES, "Permission denied", str(what))
        return stat(what, *arguments, **options)

    monkeypatch.setattr(os, "stat", checked)


def test_files_folders_links_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, target in (("to_file", "file"), ("to_folder", "."), ("dangling", "none"), ("loop", "loop")):
        (tmp_path / name).symlink_to(tmp_path / target)
    for name in ("file", "to_file", "to_folder", "dangling", "loop", "none", "file/below", "zero\0byte"):
        path = tmp_path / name
        assert (exists(path), is_file(path), is_folder(path)) == (path.exists(), path.is_file(), path.is_dir())


def test_what_may_not_be_looked_at_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cvusa, cvact = make_cvusa(tmp_path, 2, 1), make_cvact(tmp_path / "act", 2, 1, 1)
    forbid(monkeypatch, cvusa)
    forbid(monkeypatch, cvact)
    asked = (
        lambda: is_file(cvusa / "x"),
        lambda: find_cvusa(cvusa),
        lambda: find_cvact(cvact),
        lambda: Tree(cvusa / "bingmap"),
        lambda: town_maps(cvact / "maps"),
    )
    for ask in asked:
        with pytest.raises(DatasetError, match=r"cannot be looked at \(Permission denied\); check the path and the permissions") as caught:
            ask()
        assert str(tmp_path) in str(caught.value)
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="cannot be looked at .*name too long"):
        is_file(tmp_path / ("x" * 5000))


def test_a_home_folder_may_be_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere/me")
    assert expanded("~/maps") == Path("/elsewhere/me/maps")
    assert expanded("maps/~") == Path("maps/~")
    with pytest.raises(ConfigError, match="~nobody-of-this-name/x: this user has no home folder"):
        expanded("~nobody-of-this-name/x")


def test_towns_are_called_as_their_maps(tmp_path: Path) -> None:
    names = {"a.osm.pbf": "a", "b.c.osm": "b.c", "UP.PBF": "UP", "z.osm.gz": "z", "x.txt": "", ".osm": ""}
    assert {name: town_of(name) for name in names} == names
    for name in ("b.osm", "a.osm", "a.osm.pbf", "x.txt", ".hidden.osm"):
        (tmp_path / name).touch()
    (tmp_path / "folder.osm").mkdir()
    assert town_maps(tmp_path) == {"a": tmp_path / "a.osm.pbf", "b": tmp_path / "b.osm"}
