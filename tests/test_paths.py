"""Folders, and how they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodtr_lib import paths


def test_paths_in_the_repository_are_told_from_there(repository: Path, tmp_path: Path) -> None:
    assert paths.shown(repository / "runs" / "a") == "runs/a"
    assert paths.shown(tmp_path / "b") == str((tmp_path / "b").resolve())


def test_runs_lie_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, repository: Path) -> None:
    monkeypatch.setenv("GEODTR_RUNS", str(tmp_path))
    assert paths.runs_folder() == tmp_path
    monkeypatch.delenv("GEODTR_RUNS")
    assert paths.runs_folder() == repository / "runs"
