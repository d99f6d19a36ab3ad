"""verify: counts, and every fault of a whole data set at once, with what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from miniature import make_cvact, make_cvusa, make_vigor

from geodtr_lib.data import VerifyError, VerifyReport, open_dataset, verification, verify
from geodtr_lib.data.verification import verify_cvact, verify_cvusa, verify_vigor
from geodtr_lib.errors import ConfigError, DatasetError


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def damage(path: Path) -> None:
    """Looks whole from both ends."""
    path.write_bytes(path.read_bytes()[:2] + bytes(500) + b"\xff\xd9")


@pytest.mark.parametrize("decode", [True, False])
def test_whole_data_sets_have_no_problem_and_report_counts(tmp_path: Path, decode: bool) -> None:
    make_cvusa(tmp_path, 8, 4, repeats=2)
    make_cvact(tmp_path / "act", 5, 3, 4)
    make_vigor(tmp_path / "vigor", 3, 2, grid=2)
    with pytest.warns(UserWarning, match=r"is not the whole data set \(train pairs: 8 instead of 35,532; test pairs: 4 instead of 8,884\)"):
        cvusa = verify("cvusa", tmp_path, decode=decode, progress=False)
    cvact = verify("cvact", tmp_path / "act", decode=decode, progress=False)
    vigor = verify("vigor", tmp_path / "vigor", decode=decode, progress=False)
    assert cvusa.ok
    assert (cvusa.counts["train pairs"], cvusa.counts["test pairs"]) == (8, 4)
    assert (cvusa.expected["train pairs"], cvusa.expected["test pairs"]) == (35_532, 8_884)
    assert cvusa.counts.get("repeated train pairs") == (2 if decode else None)
    assert [cvact.counts[f"{name} pairs"] for name in ("cvact train", "cvact test", "cvact_test test")] == [5, 3, 4]
    assert list(cvact.expected.values()) == [35_532, 8_884, 92_802]
    assert [vigor.expected[f"{city} tiles"] for city in ("Chicago", "NewYork", "SanFrancisco", "Seattle")] == [
        22_308,
        23_279,
        24_255,
        20_776,
    ]
    assert [vigor.counts[name] for name in ("Seattle tiles", "Seattle same-area train queries", "same-area test queries")] == [4, 3, 8]
    assert "train pairs: 8 (expected 35,532)" in str(cvusa)
    assert "no problem found" in str(vigor)


def test_repeated_pairs_are_listed(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 8, 4, repeats=2)
    rows = (root / "splits/train-19zl.csv").read_text().split()
    assert verify_cvusa(root, progress=False).details["repeated train pairs"] == [row[11:18] for row in rows[-2:]]


def test_cvusa_lists_every_fault_and_what_to_do(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 12, 4)
    train = [line.split(",") for line in (root / "splits/train-19zl.csv").read_text().split()]
    for row in train[:7]:
        (root / row[0]).unlink()
    cut_short(root / train[8][1])
    damage(root / train[9][1])
    report = verify_cvusa(root, progress=False)
    (missing,) = [line for line in report.problems if "images missing" in line]
    assert missing.startswith(f"train aerial images missing: 7 ({train[0][0]}, ")
    assert missing.count(".jpg") == 5
    assert "and 2 more); fetch them again" in missing
    (unreadable,) = [line for line in report.problems if "images unreadable" in line]
    assert unreadable.startswith(f"train ground images unreadable: 2 ({train[8][1]} (image file is truncated")
    assert f"{train[9][1]} (not an image)" in unreadable
    assert report.details["train aerial images missing"] == [row[0] for row in train[:7]]
    with pytest.raises(DatasetError, match=r"train ground images unreadable: 2 .*train aerial images missing: 7 ") as caught:
        verify("cvusa", root, progress=False)
    assert "\n" not in str(caught.value)
    quick = verify_cvusa(root, decode=False, progress=False)
    assert train[8][1] in str(quick)
    assert train[9][1] not in str(quick)  # only decoding shows it


def test_a_faulty_split_file_does_not_hide_the_other_split(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 6, 4, locations=False)
    path = root / "splits/train-19zl.csv"
    path.write_text(path.read_text() + "one,two\n")
    (root / "splits/val-19zl.csv").write_text("bingmap/19/9999999.jpg,streetview/panos/9999999.jpg,x\n")
    problems = verify_cvusa(root, progress=False).problems
    assert any("train-19zl.csv, line 7" in line for line in problems)
    assert any(line.startswith("test ground images missing: 1 (streetview/panos/9999999.jpg") for line in problems)


def test_cvact_checks_the_folders_there_are(tmp_path: Path) -> None:
    root = make_cvact(tmp_path, 5, 3, 6)
    report = verify_cvact(root, progress=False)
    assert report.counts["repeated cvact train pairs"] == 0
    name = sorted((root / "ANU_data_test/streetview").iterdir())[0]
    name.unlink()
    assert any("cvact_test test ground images missing" in line for line in verify_cvact(root, progress=False).problems)
    shutil.rmtree(root / "ANU_data_test")  # most people hold the small half only
    report = verify_cvact(root, progress=False)
    assert report.ok
    assert report.details["cvact_test test"] == "not checked: there is no ANU_data_test folder"


def test_vigor_lists_faults_of_every_city(tmp_path: Path) -> None:
    root = make_vigor(tmp_path, 4, 3, grid=2)
    tile = sorted((root / "Chicago/satellite").iterdir())[0]
    cut_short(tile)
    path = root / "splits/Seattle/pano_label_balanced.txt"
    path.write_text(path.read_text().replace("satellite_", "satellite_9", 1))
    (root / "splits/NewYork/same_area_balanced_test.txt").write_text("a b c\n")
    panorama = (root / "splits/SanFrancisco/same_area_balanced_test.txt").read_text().split()[0]
    (root / "SanFrancisco/panorama" / panorama).unlink()
    text = str(verify_vigor(root, progress=False))
    assert f"Chicago aerial images unreadable: 1 (Chicago/satellite/{tile.name}" in text
    assert "Seattle cross-area label rows naming tiles absent from satellite_list.txt: 1" in text
    assert "NewYork/same_area_balanced_test.txt, line 1: 3 fields" in text
    assert f"SanFrancisco ground images missing: 1 (SanFrancisco/panorama/{panorama}" in text
    assert text.count("problem:") == 4


def test_vigor_of_one_city_and_with_corrected_labels(tmp_path: Path) -> None:
    root = make_vigor(tmp_path, 4, 3, grid=2, cities=("Seattle",))
    report = verify_vigor(root, labels="corrected", progress=False)
    assert report.ok
    assert report.counts["Seattle tiles"] == 4
    assert "NewYork tiles: 0 instead of 23,279" in report.unexpected
    assert report.details["labels"] == "corrected"


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    for name in ("cvusa", "cvact", "vigor"):
        with pytest.raises(DatasetError, match=name):
            verify(name, tmp_path)
    with pytest.raises(ConfigError, match="verify is for cvusa, cvact, vigor"):
        verify("city", tmp_path)
    (tmp_path / "splits").mkdir()
    with pytest.raises(DatasetError, match="has none of the folders NewYork, Seattle, SanFrancisco, Chicago"):
        verify("vigor", tmp_path)


def test_a_failed_check_keeps_its_report_and_says_whom_to_ask(tmp_path: Path) -> None:
    root = make_cvusa(tmp_path, 12, 4)
    rows = [line.split(",") for line in (root / "splits/train-19zl.csv").read_text().split()]
    for row in rows[:7]:
        (root / row[0]).unlink()
    damage(root / rows[9][1])
    with pytest.raises(VerifyError) as caught:
        verify("cvusa", root, progress=False)
    told = str(caught.value)
    assert "train pairs 12 of 35,532, test pairs 4 of 8,884; " in told
    assert told.endswith("the owners give the data out on request: https://mvrl.cse.wustl.edu/datasets/cvusa/")
    assert "\n" not in told
    report = caught.value.report
    assert sorted(report.faulty) == sorted([*(row[0] for row in rows[:7]), rows[9][1]])
    assert repr(report) == str(report)
    with pytest.raises(DatasetError, match=r"python -m geodtr_lib\.data\.verification NAME ROOT --write FILE lists all"):
        open_dataset("cvusa", root, progress=False)


def test_the_command_prints_counts_and_writes_every_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_cvusa(tmp_path, 12, 4)
    command = ["cvusa", str(root), "--workers", "1", "--write", str(tmp_path / "missing.txt")]
    assert verification.main(command) == 0
    assert "train pairs: 12 (expected 35,532)" in capsys.readouterr().out
    assert (tmp_path / "missing.txt").read_text() == ""
    gone = sorted((root / "streetview/panos").iterdir())[:9]
    for path in gone:
        path.unlink()
    assert verification.main(command) == 1
    assert "the owners give the data out on request: https://" in capsys.readouterr().out
    assert sorted((tmp_path / "missing.txt").read_text().split()) == [f"streetview/panos/{path.name}" for path in gone]
    assert verification.main(["vigor", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("vigor: no splits in ")
    assert verification.main(["cvusa", str(root), "--mat", "x.mat"]) == 1
    assert capsys.readouterr().err == "--mat: cvusa has no such option; leave it out\n"


def test_the_command_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "geodtr_lib.data.verification", "city", "."]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "invalid choice: 'city'" in result.stderr


def test_act_data_may_lie_elsewhere(tmp_path: Path) -> None:
    root = make_cvact(tmp_path / "act", 3, 2, 2)
    (root / "ACT_data.mat").rename(tmp_path / "ACT_data.mat")
    with pytest.warns(UserWarning, match="is not the whole data set"):
        assert verify("cvact", root, mat=tmp_path / "ACT_data.mat", progress=False).ok


def test_a_report_reads_as_text() -> None:
    report = VerifyReport(
        "cvusa", "/data", {"train pairs": 35_532, "test pairs": 8_000}, {"train pairs": 35_532, "test pairs": 8_884}, ["one"]
    )
    assert str(report).splitlines() == ["cvusa at /data", "  train pairs: 35,532", "  test pairs: 8,000 (expected 8,884)", "  problem: one"]
