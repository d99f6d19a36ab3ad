"""Many machines: a sweep and a gallery on a Dask cluster whose workers are lost in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from finished_runs import finish
from test_killed import content
from tiny_runs import TINY, tiny, train

from geodtr_lib import study
from geodtr_lib.config import resolve_config
from geodtr_lib.errors import CheckpointError, ConfigError, RunError
from geodtr_lib.evaluation import embed
from geodtr_lib.files import is_held, locked

distributed = pytest.importorskip("distributed", reason="needs geodtr-lib[cluster]")

GRID: dict[str, Any] = {**TINY, "test_areas": [["midrise"]], "ground_size": [[16, 32]], "epochs": 1, "seed": [0, 1], "n_desc": [1, 2, 3]}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers on this machine, as processes that a nanny starts again when they are gone."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
        distributed.Client(cluster) as connected,
    ):
        yield connected


def kill_one_at_work(client: Any, folder: Path, killed: list[int]) -> None:
    """SIGKILL the worker that is first seen in the middle of a run."""
    workers = list(client.run(os.getpid).values())
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        for lock in folder.glob("*/.lock"):
            if is_held(lock) and (lock.parent / "state.pt").exists():
                # Either worker is at work: six cells for two.
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])
                return
        time.sleep(0.002)


def test_a_sweep_loses_no_cell_with_a_worker_and_ends_as_the_serial_one(client: Any, tmp_path: Path) -> None:
    folders = study.sweep(GRID, runs_dir=tmp_path / "serial")
    expected = {folder.name: content(folder) for folder in folders}
    assert len(expected) == 6
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_at_work, args=(client, tmp_path / "cluster", killed), daemon=True)
    killer.start()
    found = study.sweep(GRID, client.get_executor(), runs_dir=tmp_path / "cluster")
    killer.join()
    assert killed
    assert [folder.name for folder in found] == list(expected)
    assert {folder.name: content(folder) for folder in found} == expected
    frame = study.collect(tmp_path / "cluster")
    assert len(frame) == 6
    assert not frame.duplicated(["seed", "n_desc"]).any()
    assert str(study.status(tmp_path / "cluster")) == "6 done"


def test_a_gallery_in_shards_is_the_gallery_and_only_what_is_missing_is_made(client: Any, tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", n_test=10))
    shards = study.embed_sharded(tmp_path / "run", "midrise", tmp_path / "gallery", client.get_executor(), shard=4)
    assert [path.name for path in shards] == [f"aerial-0000{number}.safetensors" for number in range(3)]
    found = study.read_shards(tmp_path / "gallery")
    assert torch.allclose(found, embedded_at_once(tmp_path / "run"), atol=1e-6)
    times = [path.stat().st_mtime_ns for path in shards]
    shards[1].write_bytes(b"cut")
    (tmp_path / "gallery" / "gallery.json").unlink()
    study.embed_sharded(tmp_path / "run", "midrise", tmp_path / "gallery", shard=4)
    again = [path.stat().st_mtime_ns for path in shards]
    assert [old == new for old, new in zip(times, again, strict=True)] == [True, False, True]
    assert torch.equal(study.read_shards(tmp_path / "gallery"), found)
    # Other images, other shards.
    study.embed_sharded(tmp_path / "run", "midrise", tmp_path / "gallery", shard=4, view="ground", n_test=6)
    assert study.read_shards(tmp_path / "gallery").shape == (6, found.shape[1])
    shards[0].write_bytes(b"cut")
    study.embed_sharded(tmp_path / "run", "midrise", tmp_path / "gallery", shard=4)
    (tmp_path / "gallery" / "aerial-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"aerial-00002.safetensors does not exist"):
        study.read_shards(tmp_path / "gallery")
    with pytest.raises(ConfigError, match="shard: 0"):
        study.embed_sharded(tmp_path / "run", "midrise", tmp_path / "gallery", shard=0)


def embedded_at_once(run: Path) -> torch.Tensor:
    from geodtr_lib.checkpoints import load_checkpoint
    from geodtr_lib.config import config_from
    from geodtr_lib.data import open_for
    from geodtr_lib.files import read_json

    config = config_from(read_json(run / "config.json"))
    data = open_for(config, "midrise", "test")
    return embed(load_checkpoint(run), data, "aerial", config.aerial_size, polar=config.polar, precision=config.precision)


def test_the_status_tells_the_kinds_apart_and_how_long_it_will_take(tmp_path: Path) -> None:
    from geodtr_lib.run_folder import note_failure, note_progress, write_config
    from geodtr_lib.study.status import plan

    names = ["done", "running", "failed", "stopped", "left"]
    plan(tmp_path, names)
    finish(resolve_config("smoke", run_dir=str(tmp_path / "done")))  # 2.5 s
    for name in names[1:4]:
        (tmp_path / name).mkdir()
        write_config(tmp_path / name, {})
        note_progress(tmp_path / name, steps=1, of=4, seconds=0.625)
    note_failure(tmp_path / "failed", RunError("the loss is\nnan"))
    with locked(tmp_path / "running" / ".lock"):
        found = study.status(tmp_path)
        assert dict(zip(found.runs["run"], found.runs["state"], strict=True)) == {name: name for name in names}
        assert found.seconds_to_go == pytest.approx(2.5 * (0.75 + 0.75 + 1))
        said = str(found).splitlines()
    assert said[0] == "1 done, 1 running, 1 failed, 1 stopped, 1 left; about 6 s to go"
    assert said[1:] == ["  running: running, 25 %", "  failed: RunError: the loss is nan", "  stopped: stopped, 25 %"]
    with pytest.raises(RunError, match="is not a folder"):
        study.status(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert (str(study.status(tmp_path / "empty")), study.status(tmp_path / "empty").seconds_to_go) == ("no runs", None)
