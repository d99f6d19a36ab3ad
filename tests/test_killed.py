"""Trainings and sweeps killed at any moment: the next start finishes them, and nothing shows that they were killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TINY, start, tiny, train

from geodtr_lib import study
from geodtr_lib.checkpoints import load_tensors
from geodtr_lib.run_folder import read_metrics
from geodtr_lib.trainer import one_thread_if

pytestmark = pytest.mark.skipif(not hasattr(time, "clock_gettime") or os.name != "posix", reason="kills by the victim's own clock")


def processor_seconds(pid: int) -> float | None:
    """What a process has computed so far; None when it is gone. The kernel's clock of process ``pid`` is numbered so (Linux)."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return None


def run_until(moment: float, function: Callable[..., Any], *arguments: Any) -> tuple[bool, float]:
    """Run in another process and kill it when it has computed for ``moment`` seconds: whether it was, and how long it computed.

    Its own clock says when: the moments are then spread over its work however busy the machine is.
    """
    process = start(function, *arguments)
    assert process.pid is not None
    spent = 0.0
    while process.is_alive():
        spent = processor_seconds(process.pid) or spent
        if spent >= moment:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            return process.exitcode == -signal.SIGKILL, spent
        time.sleep(0.001)
    assert process.exitcode == 0
    return False, spent


def killed(times: int, whole: float, draw: random.Random, folder: Path, work: Callable[[Path], tuple[Any, ...]]) -> Iterator[Path]:
    """Folders of so many works that were killed, each at a moment of its own; one that was over before its moment does not count."""
    found = 0
    for number in range(3 * times):
        if found < times and run_until(draw.uniform(0, whole), *work(folder / f"killed{number}"))[0]:
            found += 1
            yield folder / f"killed{number}"
    assert found == times


def content(folder: Path) -> dict[str, Any]:
    """What must be the same whether a run was killed or not: weights, losses, recalls, and which files there are."""
    metrics = read_metrics(folder)
    train = {name: value for name, value in metrics["train"].items() if "second" not in name}
    weights = {name: value.numpy().tobytes() for name, value in load_tensors(folder / "model.safetensors")[0].items()}
    return {"train": train, "evaluation": metrics["evaluation"], "weights": weights, "files": sorted(os.listdir(folder))}


def test_a_training_killed_at_any_of_many_moments_ends_with_the_same_weights(tmp_path: Path) -> None:
    train(tiny(tmp_path / "warm"))  # renders the places
    _, whole = run_until(float("inf"), train, tiny(tmp_path / "whole"))
    expected = content(tmp_path / "whole")
    begun = 0
    with one_thread_if(True):  # as in the processes that are killed
        for number, folder in enumerate(killed(60, whole, random.Random(7), tmp_path, lambda folder: (train, tiny(folder))), 1):
            begun += (folder / "state.pt").exists()
            train(tiny(folder))
            assert content(folder) == expected, folder.name
            if number >= 20 and begun >= 4:  # some were in the middle of the training
                return
    pytest.fail(f"of 60 moments {begun} were in the middle of the training")


GRID = {**{name: value for name, value in TINY.items() if name != "test_areas"}, "test_areas": [["midrise"]], "seed": [0, 1, 2]}
GRID |= {"epochs": 1, "ground_size": [[16, 32]]}


def sweep(folder: str) -> None:
    study.sweep(GRID, runs_dir=folder)


def test_a_sweep_killed_at_any_of_ten_moments_loses_and_doubles_no_cell(tmp_path: Path) -> None:
    sweep(str(tmp_path / "warm"))
    _, whole = run_until(float("inf"), sweep, str(tmp_path / "whole"))
    expected = {folder.name: content(folder) for folder in (tmp_path / "whole").iterdir() if folder.is_dir()}
    assert len(expected) == 3
    for folder in killed(10, whole, random.Random(11), tmp_path, lambda folder: (sweep, str(folder))):
        finished = {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")}
        sweep(str(folder))
        assert {run.name: content(run) for run in folder.iterdir() if run.is_dir()} == expected, folder.name
        assert all(path.stat().st_mtime_ns == when for path, when in finished.items()), "what was finished is not run again"
        frame = study.collect(folder)
        assert sorted(frame["seed"]) == [0, 1, 2]


def test_the_status_of_a_sweep_that_was_killed(tmp_path: Path) -> None:
    _, whole = run_until(float("inf"), sweep, str(tmp_path / "whole"))
    assert study.status(tmp_path / "whole").seconds_to_go == 0
    stopped = study.status(tmp_path / "whole")
    assert str(stopped) == "3 done"
    for part in (0.5, 0.4, 0.6, 0.7):  # until it is killed in the middle of the second of three runs
        folder = tmp_path / f"killed{part}"
        run_until(part * whole, sweep, str(folder))
        stopped = study.status(folder)
        if stopped.count("stopped"):
            break
    assert stopped.count("stopped") == 1
    assert stopped.count("done") + stopped.count("left") == 2
    assert "1 stopped" in str(stopped)
    failed = folder / json.loads((folder / "sweep.json").read_text())["runs"][-1]
    failed.mkdir(exist_ok=True)
    (failed / "failed.json").write_text(json.dumps({"schema": 1, "error": "DatasetError", "reason": "no such file"}))
    (failed / "metrics.json").unlink(missing_ok=True)
    assert f"{failed.name}: DatasetError: no such file" in str(study.status(folder))
