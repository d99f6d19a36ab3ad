"""What is kept of the study's runs: small open tables under ``results/``, each written whole, with no run in them twice."""

from __future__ import annotations

import csv
import gzip
import io
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geodtr_lib.errors import RunError
from geodtr_lib.files import locked, write_bytes

SCHEMA = 1
RUNS = "study.csv"
"""One row per run and test area: configuration, seed, commit, versions, machine, recalls, times."""
CURVES = "study_curves.csv"
"""One row per run and epoch: the losses."""
PROBES = "study_probes.csv"
"""One row per run and test area: what was measured on the trained weights."""
DISTANCES = "study_distances.csv.gz"
"""One row per run, test area and kind of pair: the distances of Figure 10, sorted."""
EFFICIENCY = "efficiency.csv"
"""One row per model and machine: Table VII."""
MAPS_FOLDER = "descriptor_maps"
"""Folder of the descriptor maps that Figures 7 and 8 are drawn from."""
TABLES = (EFFICIENCY, DISTANCES, CURVES, PROBES, RUNS)  # a run counts as recorded by its rows in the last one, which is written last
SAME_TEST = ("dataset", "area", "seed", "n_test", "ground_size", "tile_size")
"""Rows of ``RUNS`` that agree in these columns were measured on the same test pairs, or must not be compared."""

Row = Mapping[str, Any]
_TEXT = dict.fromkeys(("run", "version_commit", "data_hash", "test_hash"), str)  # hex digits are no numbers
_PATIENCE = 60.0  # seconds that a writer waits for another


class Records:
    """The study's tables in a folder. Every row has the columns ``schema`` and ``run`` (its run's key)."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def read(self, name: str) -> pd.DataFrame:
        """One of the tables; without rows where there is no file yet.

        Raises:
            RunError: the file cannot be read, or its schema is not this version's.
        """
        content = self._content(name)
        if not content:
            return pd.DataFrame(columns=["schema", "run"])
        try:
            frame = pd.read_csv(io.StringIO(content), dtype=_TEXT)
        except ValueError as error:
            raise RunError(f"{self.folder / name} cannot be read as a table ({error})") from None
        if "schema" not in frame or "run" not in frame or (frame["schema"] != SCHEMA).any():
            raise RunError(f"{self.folder / name} is not of schema {SCHEMA}, or damaged; this version reads no other")
        return frame

    def finished(self) -> set[str]:
        """Keys of the runs that are recorded."""
        return set(self.read(RUNS)["run"])

    def add(self, run: str, tables: Mapping[str, Sequence[Row]]) -> None:
        """Add a run's rows, in place of those that it has already. What other runs have stays as it is, to the letter.

        Args:
            run: the run's key.
            tables: rows by the table's name; a column that is new goes to the end.

        Raises:
            RunError: a file cannot be read or written, or another process holds the folder for too long.
        """
        with _waiting_for(self.folder / ".lock"):
            for name in TABLES:
                if name in tables:
                    self._replace(name, run, tables[name])

    def _replace(self, name: str, run: str, rows: Sequence[Row]) -> None:
        self.read(name)  # of this schema, and whole
        try:
            table = list(csv.reader(io.StringIO(self._content(name)))) or [["schema", "run"]]
            columns, key = table[0], table[0].index("run")
            kept = [line for line in table[1:] if line[key] != run]
        except (csv.Error, IndexError, ValueError) as error:
            raise RunError(f"{self.folder / name} cannot be read as a table ({error})") from None
        added = [{"schema": SCHEMA, "run": run, **row} for row in rows]
        columns = list(dict.fromkeys([*columns, *(column for row in added for column in row)]))
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([*line, *[""] * (len(columns) - len(line))] for line in kept)
        writer.writerows([_text(row.get(column)) for column in columns] for row in added)
        content = out.getvalue().encode()
        write_bytes(self.folder / name, gzip.compress(content, mtime=0) if name.endswith(".gz") else content)

    def _content(self, name: str) -> str:
        path = self.folder / name
        if not path.is_file():
            return ""
        try:
            content = path.read_bytes()
            return (gzip.decompress(content) if name.endswith(".gz") else content).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise RunError(f"{path} cannot be read ({error})") from None


def require_same_pairs(rows: pd.DataFrame, own: Mapping[str, Any], column: str, found: str, what: str) -> None:
    """Before time is spent on it: a run on other pictures than the recorded ones could not be compared with them.

    Args:
        rows: recorded.
        own: what rows of the same pairs have in their columns.
        column: of the pairs' hash.
        found: the run's own hash.
        what: the pairs, for the message.

    Raises:
        RunError: recorded rows have another hash.
    """
    if column not in rows:
        return
    same = rows[rows[list(own)].eq(list(own.values())).all(axis=1)]
    if others := sorted(set(same[column].dropna()) - {found}):
        raise RunError(
            f"{what} ({found}) are not those of the recorded rows ({others[0]}), drawn by another processor or version; draw them as there "
            "(with MKL_CBWR=COMPATIBLE and an empty GEODTR_CACHE an Intel draws what an AMD does), or record to another folder (--results)"
        )


def _text(value: Any) -> str:
    """A cell: six digits of a number are more than its seeds' spread leaves certain."""
    if value is None or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


@contextmanager
def _waiting_for(lock: Path) -> Iterator[None]:
    """Hold a lock, after waiting for whoever else writes."""
    until = time.monotonic() + _PATIENCE
    while True:
        attempt = locked(lock)
        try:
            attempt.__enter__()
        except RunError:
            if time.monotonic() > until or not lock.is_file():
                raise
            time.sleep(0.1)
            continue
        break
    try:
        yield
    finally:
        attempt.__exit__(None, None, None)
