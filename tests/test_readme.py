"""The numbers of the README and of docs/results.md are those of the committed results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from geodtr_lib.errors import RunError
from geodtr_lib.study.readme import answers_block, claims_block, committed_results, documents, results_block, with_block


def rows(sampling: str, seed: int, same: float, cross: tuple[float, float]) -> list[dict]:
    common = dict(dataset="city", train_area="midrise", n_desc=8, sampling=sampling, seed=seed, seconds=100.0, n_gallery=500)
    common |= dict(preset="small", version_machine="a machine", version_torch="2", version_commit="abc", precision="bf16")
    areas = {"midrise": same, "suburb": cross[0], "oldtown": cross[1]}
    return [{**common, "area": area, "protocol": "same" if area == "midrise" else "cross", "r1": r1} for area, r1 in areas.items()]


def test_the_documents_show_the_committed_results(repository: Path) -> None:
    for name, blocks in documents(repository / "results").items():
        text = (repository / name).read_text(encoding="utf-8")
        assert text.count("<!-- /") == len(blocks)
        for block, content in blocks.items():
            assert text == with_block(text, block, content), f"{name}, {block}: run make figures"


def test_the_short_answers_are_those_of_the_long_tables(repository: Path, tmp_path: Path) -> None:
    block = answers_block(repository / "results")
    lines = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in block.splitlines()[2:]}
    claims = claims_block(repository / "results")
    printed, city, osm = lines["CHSG instead of LS, views and steps alike"]
    (long,) = (line for line in claims.splitlines() if "at equal views and steps, cross-area" in line)
    assert f" {printed} " in long
    for cell in (city, osm):
        difference, trainings = cell.split("], ")
        assert f": {difference}], n = {trainings.removesuffix(' trainings')} " in long
    assert all(cell.endswith(" 12 methods") for cell in lines["CHSG instead of LS, mean over the 12 methods"][1:])
    assert len(answers_block(tmp_path).splitlines()) == 2, "nothing recorded, nothing claimed"


def test_the_block_holds_means_intervals_and_the_paired_gain() -> None:
    frame = pd.DataFrame(
        rows("raw", 0, 0.5, (0.1, 0.2)) + rows("raw", 1, 0.4, (0.1, 0.1)) + rows("raw", 2, 0.45, (0.1, 0.1))
        + rows("LS", 0, 0.6, (0.2, 0.3)) + rows("LS", 1, 0.6, (0.2, 0.2)) + rows("LS", 2, 0.6, (0.2, 0.2))
    )
    table = results_block(frame).splitlines()
    assert table[2].startswith("| city, midrise | `raw` | 8 | 45.0 (")
    assert "| 60.0 (60.0 to 60.0) | 21.7 (" in table[3]
    assert "| 10.0 (10.0 to 10.0) | 100 s | 3 |" in table[3]
    assert "chance is at most 0.2 %" in results_block(frame)


def test_one_seed_has_no_interval() -> None:
    assert "| `raw` | 8 | 50.0 | 15.0 |  | 100 s | 1 |" in results_block(pd.DataFrame(rows("raw", 0, 0.5, (0.1, 0.2))))


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no CSV"):
        committed_results(tmp_path)
    with pytest.raises(RunError, match="no block"):
        with_block("# Title", "results", "table")
