"""The README's numbers are those of the committed results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from geodtr_lib.errors import RunError
from geodtr_lib.study.readme import CLAIMS, RESULTS, claims_block, committed_results, results_block, with_block


def rows(sampling: str, seed: int, same: float, cross: tuple[float, float]) -> list[dict]:
    common = dict(dataset="city", train_area="midrise", n_desc=8, sampling=sampling, seed=seed, seconds=100.0, n_gallery=500)
    common |= dict(preset="small", version_machine="a machine", version_torch="2", version_commit="abc")
    areas = {"midrise": same, "suburb": cross[0], "oldtown": cross[1]}
    return [{**common, "area": area, "protocol": "same" if area == "midrise" else "cross", "r1": r1} for area, r1 in areas.items()]


def test_the_readme_shows_the_committed_results(repository: Path) -> None:
    readme = (repository / "README.md").read_text()
    assert readme == with_block(readme, RESULTS, results_block(committed_results(repository / "results"))), "run make figures"
    assert readme == with_block(readme, CLAIMS, claims_block(repository / "results")), "run make figures"


def test_the_block_holds_means_intervals_and_the_paired_gain() -> None:
    frame = pd.DataFrame(
        rows("raw", 0, 0.5, (0.1, 0.2)) + rows("raw", 1, 0.4, (0.1, 0.1)) + rows("LS", 0, 0.6, (0.2, 0.3)) + rows("LS", 1, 0.6, (0.2, 0.2))
    )
    table = results_block(frame).splitlines()
    assert table[2].startswith("| city, midrise | `raw` | 8 | 45.0 (")
    assert "| 60.0 (60.0 to 60.0) | 22.5 (" in table[3]
    assert "| 10.0 (10.0 to 10.0) | 100 s | 2 |" in table[3]
    assert "chance is at most 0.2 %" in results_block(frame)


def test_one_seed_has_no_interval() -> None:
    assert "| `raw` | 8 | 50.0 | 15.0 |  | 100 s | 1 |" in results_block(pd.DataFrame(rows("raw", 0, 0.5, (0.1, 0.2))))


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no CSV"):
        committed_results(tmp_path)
    with pytest.raises(RunError, match="no block"):
        with_block("# Title", RESULTS, "table")
