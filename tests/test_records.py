"""The study's tables: no run twice, nothing half written, what is there stays to the letter."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from geodtr_lib.errors import RunError
from geodtr_lib.files import locked
from geodtr_lib.study import records
from geodtr_lib.study.records import CURVES, DISTANCES, RUNS, Records


def test_rows_come_back_typed_and_a_run_that_is_added_again_replaces_its_rows(tmp_path: Path) -> None:
    tables = Records(tmp_path / "results")
    assert tables.finished() == set()
    tables.add("0e12", {RUNS: [{"area": "a", "r1": 0.5, "version_commit": "1234567"}, {"area": "b", "r1": 1 / 3}], CURVES: [{"epoch": 1}]})
    tables.add("ff", {RUNS: [{"area": "a", "r1": 0.25}]})
    tables.add("0e12", {RUNS: [{"area": "c", "r1": float("nan")}]})
    frame = tables.read(RUNS)
    assert frame["run"].tolist() == ["ff", "0e12"], "a key is text, not a number"
    assert frame["area"].tolist() == ["a", "c"]
    assert frame["r1"].tolist()[0] == 0.25
    assert frame["r1"].isna().tolist() == [False, True]
    assert (frame["schema"] == 1).all()
    assert tables.finished() == {"0e12", "ff"}
    assert len(tables.read(CURVES)) == 1


def test_new_columns_go_to_the_end_and_earlier_rows_stay_to_the_letter(tmp_path: Path) -> None:
    tables = Records(tmp_path)
    tables.add("a", {RUNS: [{"r1": 0.1234567891, "what": 'said "so", twice'}]})
    before = (tmp_path / RUNS).read_text().splitlines()
    tables.add("b", {RUNS: [{"later": 2, "r1": 0.5}]})
    after = (tmp_path / RUNS).read_text().splitlines()
    assert after[0] == before[0] + ",later"
    assert after[1] == before[1] + ","
    assert tables.read(RUNS)["what"][0] == 'said "so", twice'


def test_compressed_tables_have_the_same_bytes_for_the_same_rows(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        Records(tmp_path / folder).add("x", {DISTANCES: [{"kind": "flip", "distances": "0.1 0.2"}]})
    assert (tmp_path / "a" / DISTANCES).read_bytes() == (tmp_path / "b" / DISTANCES).read_bytes()
    assert Records(tmp_path / "a").read(DISTANCES)["distances"].tolist() == ["0.1 0.2"]


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    threads = [threading.Thread(target=Records(tmp_path).add, args=(f"run{i}", {RUNS: [{"seed": i}]})) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Records(tmp_path).finished() == {f"run{i}" for i in range(8)}


def test_a_folder_that_is_held_for_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_PATIENCE", 0.2)
    with locked(tmp_path / ".lock"), pytest.raises(RunError, match="in use by another process"):
        Records(tmp_path).add("x", {RUNS: [{}]})


def test_a_table_of_another_schema_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / RUNS).write_text("schema,run\n2,x\n")
    with pytest.raises(RunError, match=r"study\.csv is not of schema 1"):
        Records(tmp_path).finished()
    (tmp_path / DISTANCES).write_bytes(b"no gzip")
    with pytest.raises(RunError, match="cannot be read"):
        Records(tmp_path).read(DISTANCES)


def test_a_compressed_table_with_any_damaged_byte_is_refused_in_one_line_or_read_as_it_was(tmp_path: Path) -> None:
    tables = Records(tmp_path)
    tables.add("x", {DISTANCES: [{"kind": "flip", "distances": "0.1 0.2"}]})
    whole, expected = (tmp_path / DISTANCES).read_bytes(), tables.read(DISTANCES)
    refused: list[str] = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / DISTANCES).write_bytes(damaged)
        try:
            assert tables.read(DISTANCES).equals(expected), "a byte of the header that says nothing of the content"
        except RunError as error:
            refused.append(str(error))
    assert len(refused) > len(whole) / 2
    assert all("study_distances.csv.gz cannot be read" in reason for reason in refused)
