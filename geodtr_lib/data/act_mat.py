"""Reads CVACT's ``ACT_data.mat``, MATLAB 5 or MATLAB 7.3 (HDF5)."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.io

from geodtr_lib.errors import DatasetError

# Struct -> field of its 1-based indices.
FIELDS = {"trainSet": "trainInd", "valSet": "valInd", "valSetAll": "valInd"}
VARIABLES = ("panoIds", "utm", *FIELDS)
Content = tuple[list[str], np.ndarray, dict[str, np.ndarray]]


@dataclass(frozen=True)
class ActData:
    """The content of ``ACT_data.mat``.

    Attributes:
        path: the file.
        pano_ids: N panorama ids.
        utm: N x 2 metres.
        indices: rows of each set, from 0.
    """

    path: Path
    pano_ids: list[str]
    utm: np.ndarray
    indices: dict[str, np.ndarray]


def read_act_data(path: str | Path) -> ActData:
    """Read ids, positions and sets.

    Raises:
        DatasetError: not a MATLAB file, h5py is needed and missing, a variable is missing, an index has no id, or a place no position.
    """
    path = Path(path)
    pano_ids, utm, sets = _read_mat5(path) or _read_mat73(path)
    if utm.shape != (len(pano_ids), 2):
        raise DatasetError(f"{path}: utm has shape {utm.shape}, expected ({len(pano_ids)}, 2); fetch the file again")
    indices = {}
    for name, values in sets.items():
        if not np.isfinite(values).all():
            raise DatasetError(f"{path}: {name}.{FIELDS[name]} holds what is no number; fetch the file again")
        rows = values.ravel().astype(np.int64) - 1  # MATLAB counts from 1
        if not len(rows) or rows.min() < 0 or rows.max() >= len(pano_ids):
            found = f"{rows.min() + 1} to {rows.max() + 1}" if len(rows) else "none"
            limits = f"must hold numbers from 1 to {len(pano_ids)}, found {found}"
            raise DatasetError(f"{path}: {name}.{FIELDS[name]} {limits}; fetch the file again")
        indices[name] = rows
    used = np.unique(np.concatenate(list(indices.values())))
    if len(lost := used[~np.isfinite(utm[used]).all(axis=1)]):
        raise DatasetError(f"{path}: utm of row {lost[0] + 1} is no position ({utm[lost[0]].tolist()}); fetch the file again")
    return ActData(path, pano_ids, utm.astype(np.float64), indices)


def _read_mat5(path: Path) -> Content | None:
    """Content of a MATLAB 5 file, or None for a MATLAB 7.3 one."""
    if path.is_file():
        status = path.stat()
        _survives(path, status.st_size, status.st_mtime_ns)
    try:
        mat = scipy.io.loadmat(path, variable_names=VARIABLES)
    except NotImplementedError:  # scipy's way to say 7.3
        return None
    except Exception as error:  # on bytes that are no whole MATLAB file scipy raises whatever it stumbles over
        raise _unreadable(path, "MATLAB file", error) from None
    _require(path, set(mat), {name: set(getattr(mat[name], "dtype", np.dtype(float)).names or ()) for name in FIELDS if name in mat})
    try:
        ids = [str(np.ravel(value)[0]).strip() for value in np.ravel(mat["panoIds"])]  # rows of a char matrix, or cells
        sets = {name: np.asarray(mat[name][field][0][0], dtype=np.float64) for name, field in FIELDS.items()}
        return ids, np.asarray(mat["utm"], dtype=np.float64), sets
    except (LookupError, ValueError, TypeError) as error:
        raise _unreadable(path, "MATLAB file", error) from None


@lru_cache(maxsize=8)
def _survives(path: Path, size: int, modified_ns: int) -> None:
    """Try the file in a process of its own first: on some damaged files scipy does not raise but ends the process.

    Raises:
        DatasetError: the process was ended.
    """
    command = [sys.executable, "-c", "import sys, scipy.io; scipy.io.loadmat(sys.argv[1], variable_names=sys.argv[2:])", str(path)]
    tried = subprocess.run([*command, *VARIABLES], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if tried.returncode < 0:
        raise DatasetError(f"{path} is not a readable MATLAB file (reading it ends the process); fetch it again")


def _unreadable(path: Path, kind: str, error: Exception) -> DatasetError:
    return DatasetError(f"{path} is not a readable {kind} ({error}); fetch it again")


def _read_mat73(path: Path) -> Content:
    try:
        import h5py
    except ImportError:
        raise DatasetError(f"{path} is a MATLAB 7.3 file, which needs h5py; pip install h5py, or save it in MATLAB with -v7") from None
    try:
        with h5py.File(path) as mat:
            _require(path, set(mat), {name: set(mat[name]) for name in FIELDS if isinstance(mat.get(name), h5py.Group)})
            ids = mat["panoIds"]
            cells = ids.dtype == h5py.ref_dtype  # references to arrays of character codes; else a matrix of them
            # MATLAB stores by columns, so HDF5 shows every matrix transposed.
            codes = [mat[reference][()].ravel() for reference in np.ravel(ids[()])] if cells else list(ids[()].T)
            sets = {name: mat[name][field][()] for name, field in FIELDS.items()}
            return ["".join(map(chr, row)).strip() for row in codes], mat["utm"][()].T, sets
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise _unreadable(path, "MATLAB 7.3 file", error) from None


def _require(path: Path, found: set[str], fields: dict[str, set[str]]) -> None:
    missing = [name for name in ("panoIds", "utm") if name not in found]
    missing += [f"{name}.{field}" for name, field in FIELDS.items() if field not in fields.get(name, set())]
    if missing:
        raise DatasetError(f"{path} lacks {', '.join(missing)}; this is not CVACT's ACT_data.mat, fetch it again")
