"""The files under a data root: listed folder by folder, never outside the root."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from geodtr_lib.errors import DatasetError
from geodtr_lib.lookup import exists, expanded, is_folder


class Tree:
    """Answers which files exist under ``root``, from one directory listing per folder.

    The big data sets hold 90,000 files in a folder; asking the file system for each takes minutes on a network disk.
    Names come from data files, so they are not trusted: absolute names, ``..`` and links that lead out of the root are
    errors. Links are fine as long as they stay within the root; the root itself and the folders of the layout, whose names
    come from the library, may be links to elsewhere.

    Args:
        root: the data set's own folder.
        layout: folders below it, relative, that may lie elsewhere.

    Attributes:
        root: as given.
        real_root: the same, absolute and without links.

    Raises:
        DatasetError: ``root`` is not a folder, or cannot be looked at.
    """

    def __init__(self, root: str | Path, layout: Sequence[str] = ()) -> None:
        self.root = str(root)
        if not is_folder(self.root):
            raise DatasetError(f"{self.root} is not a folder; give the data set's own folder as data_root")
        self.real_root = os.path.realpath(self.root)
        self._places = tuple(dict.fromkeys([self.real_root, *(os.path.realpath(self.path(folder)) for folder in layout)]))
        self._names: dict[str, frozenset[str]] = {}

    def path(self, relative: str) -> str:
        """Full path of a file named relative to the root."""
        return os.path.join(self.root, relative)

    def names(self, folder: str) -> frozenset[str]:
        """Names of the files in a folder; empty when there is no such folder.

        Raises:
            DatasetError: the folder, or a link in it, leads out of the root and of the layout's folders.
        """
        if folder not in self._names:
            self._names[folder] = self._list(folder)
        return self._names[folder]

    def holds(self, relative: str) -> bool:
        """Is there such a file?"""
        folder, name = os.path.split(relative)
        return name in self.names(folder)

    def first(self, candidates: Iterable[str]) -> str | None:
        """The first of these files that exists."""
        return next((name for name in candidates if self.holds(name)), None)

    def _list(self, folder: str) -> frozenset[str]:
        full = self.path(folder)
        self._require_inside(full)
        try:
            with os.scandir(full) as entries:
                found = [entry for entry in entries if entry.is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except OSError as error:
            raise DatasetError(f"{full} cannot be listed ({error.strerror}); check its permissions") from None
        for entry in found:
            if entry.is_symlink():
                self._require_inside(entry.path)
        return frozenset(entry.name for entry in found)

    def _require_inside(self, full: str) -> None:
        real = os.path.realpath(full)
        if not any(real == place or real.startswith(place.rstrip(os.sep) + os.sep) for place in self._places):
            advice = "copy it there; only whole folders of the data set's layout may be links to elsewhere"
            raise DatasetError(f"{full} leads to {real}, outside the data root {self.root}; {advice}")


def safe_name(name: str, source: str) -> str:
    """``name``, without a ``./`` at its start, if it is a plain path below the data root.

    Args:
        name: a file name found in a data file, relative to the root.
        source: where it was found (file and line), for the message.

    Raises:
        DatasetError: empty, absolute, or with ``..``.
    """
    plain = name.removeprefix("./")
    elsewhere = plain.startswith(("/", "\\")) or plain[1:2] == ":"  # a drive of Windows
    if not plain.strip() or "\0" in plain or elsewhere or ".." in plain.replace("\\", "/").split("/"):
        raise DatasetError(f"{source}: {name!r} is not a file name below the data root; correct this line")
    return plain


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Lines of a text file that are not blank, each with its number, from 1.

    Raises:
        DatasetError: missing, not text, or empty.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            lines = [(number, line) for number, line in enumerate(stream.read().splitlines(), start=1) if line.strip()]
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist; see the data set's layout in the documentation of its module") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not readable as text ({error}); fetch it again") from None
    if not lines:
        raise DatasetError(f"{path} is empty; fetch it again")
    return lines


def find_root(root: str | Path | None, below: Sequence[str], marker: str, name: str) -> Path:
    """The folder that holds ``marker``: ``root`` itself, or the first of the folders ``below`` it.

    Raises:
        DatasetError: none does, or it cannot be looked at; says what was looked for.
    """
    if not root:
        raise DatasetError(f"{name} needs data_root, the folder that holds {marker}; its owners give the data out on request")
    top = expanded(root)
    for folder in ("", *below):
        if exists(top / folder / marker):
            return top / folder
    tried = ", ".join(str(top / folder) for folder in ("", *below))
    raise DatasetError(f"{name}: no {marker} in {tried}; give the folder that holds it as data_root")
