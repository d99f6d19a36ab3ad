"""Runs that were made twice on different machines, and the noise of one training by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geodtr_lib.study.records import RUNS, Records
from geodtr_lib.study.repeats import repeated_runs, training_noise


def rows(run: str, machine: str, same: float, cross: tuple[float, ...]) -> list[dict[str, Any]]:
    areas = [("here", "same", same), *((f"area {number}", "cross", value) for number, value in enumerate(cross))]
    made = {"version_machine": machine, "precision": "bf16" if machine == "two" else "fp32", "data_hash": f"{run} everywhere"}
    return [{"run": run, "area": area, "protocol": protocol, "r1": r1, **made} for area, protocol, r1 in areas]


def test_noise_is_of_runs_made_on_two_machines(tmp_path: Path) -> None:
    assert repeated_runs(tmp_path).empty
    study = rows("a", "one", 0.6, (0.2, 0.4)) + rows("b", "one", 0.5, (0.1,)) + rows("c", "one", 0.5, (0.1,))
    Records(tmp_path).add("all", {RUNS: study})
    assert repeated_runs(tmp_path).empty
    again = rows("a", "two", 0.56, (0.22, 0.46)) + rows("c", "one", 0.9, (0.9,))
    Records(tmp_path / "repeats").add("all", {RUNS: again})
    Records(tmp_path / "methods").add("all", {RUNS: [{**row, "data_hash": "others"} for row in rows("b", "two", 0.53, (0.1, 0.9))]})
    found = repeated_runs(tmp_path).set_index(["run", "protocol"])
    assert set(found.index.get_level_values("run")) == {"a", "b"}, "the same machine repeats a run to the bit; that is no second run"
    recalls = found[["first", "second"]]
    assert tuple(recalls.loc[("a", "cross")]) == pytest.approx((0.3, 0.34))
    assert tuple(recalls.loc[("b", "cross")]) == pytest.approx((0.1, 0.1)), "only areas that both have"
    assert found["precision_differs"].all()
    assert dict(found["pictures_differ"].groupby("run").any()) == {"a": False, "b": True}
    noise = training_noise(found.reset_index())
    assert noise["same"] == pytest.approx(((0.04**2 + 0.03**2) / 2 / 2) ** 0.5)
    assert noise["cross"] == pytest.approx((0.04**2 / 2 / 2) ** 0.5)
