"""What lies at a path that a user gives: a file, a folder, maps. What cannot be looked at is one line that names it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from geodtr_lib.errors import ConfigError, DatasetError

MAP_SUFFIXES = (".osm.pbf", ".osm.bz2", ".osm.gz", ".pbf", ".osm")
"""Endings, in any case, of the OpenStreetMap extracts that can be read; of two maps of one name the earlier is taken."""

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def expanded(path: str | Path) -> Path:
    """``path`` with the home folder for a leading ``~``.

    Raises:
        ConfigError: of a user who has none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: this user has no home folder; write the path out") from None


def is_file(path: str | Path) -> bool:
    """Is there a file, or a link to one?

    Raises:
        DatasetError: it cannot be looked at, for instance because a folder above may not be entered.
    """
    return stat.S_ISREG(_mode(path))


def is_folder(path: str | Path) -> bool:
    """Is there a folder, or a link to one? Raises as :func:`is_file`."""
    return stat.S_ISDIR(_mode(path))


def exists(path: str | Path) -> bool:
    """Is there anything? Raises as :func:`is_file`."""
    return _mode(path) != 0


def _mode(path: str | Path) -> int:
    """Kind and permissions as the file system has them; 0 where nothing is."""
    try:
        return os.stat(path).st_mode
    except ValueError:  # a zero byte: no file has such a name
        return 0
    except OSError as error:
        if error.errno in _NOTHING:
            return 0
        reason = error.strerror or str(error)
        raise DatasetError(f"{path} cannot be looked at ({reason}); check the path and the permissions of its folders") from None


def town_of(path: str | Path) -> str:
    """What a map's town is called: the file's name without its ending; empty when the ending is no map's."""
    name = Path(path).name
    ending = next((suffix for suffix in MAP_SUFFIXES if name.lower().endswith(suffix)), name)
    return name[: len(name) - len(ending)]


def town_maps(root: str | Path) -> dict[str, Path]:
    """The OpenStreetMap extracts that ``root`` is or, as a folder, holds: path by town, sorted by name.

    Raises:
        DatasetError: none, or ``root`` cannot be looked at.
    """
    path, endings = expanded(root), ", ".join(MAP_SUFFIXES)
    if not exists(path):
        raise DatasetError(f"{path} does not exist; give an OpenStreetMap extract ({endings}) or a folder of them as data_root")
    if not is_folder(path):
        if town := town_of(path):
            return {town: path}
        raise DatasetError(f"{path} is not named as an OpenStreetMap extract; rename it to end with one of {endings}")
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise DatasetError(f"{path} cannot be listed ({error.strerror}); check its permissions") from None
    found: dict[str, Path] = {}
    for suffix in MAP_SUFFIXES:
        for name in names:
            if name.lower().endswith(suffix) and not name.startswith(".") and is_file(path / name):
                found.setdefault(town_of(name), path / name)
    if not found:
        raise DatasetError(
            f"{path} holds no OpenStreetMap extract ({endings}); put one there, or leave data_root empty for the towns of the library"
        )
    return dict(sorted(found.items()))
