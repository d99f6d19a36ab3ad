"""Several processes make the same steps as one: same losses, same gradients, same results, one writer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import start, tiny, train
from torch import nn

import geodtr_lib.trainer
from geodtr_lib import training
from geodtr_lib.distributed import Ranks, SynchronisedBatchNorm, joined, synchronise
from geodtr_lib.shares import Share, SharedGenerator, uniform
from geodtr_lib.trainer import Trainer

NO_STATISTICS = "convnext_atto:stage2"  # layer norms
CASES: dict[str, dict[str, Any]] = {
    "plain": dict(sampling="LS", backbone=NO_STATISTICS),
    "chsg": dict(sampling="L+S", backbone=NO_STATISTICS),
    "chsg, statistics of all": dict(sampling="L+S", n_train=8),
    "infonce, learnt": dict(sampling="LS", loss="infonce", learn_temperature=True, fov=90, heading="random", backbone=NO_STATISTICS),
    "same augmentation, consistency": dict(sampling="L+sameS", consistency_weight=0.5, backbone=NO_STATISTICS),
}
# Batches of 5, 5 and 3 places: 3 + 2, 3 + 2, 2 + 1. Dropout differs between rows, so between ways to spread them.
COMMON = dict(n_train=13, batch_size=5, epochs=1, dropout=0.0, precision="fp32", device="cpu")


def in_processes(function: Any, *arguments: Any, size: int = 2, patience: float = 300) -> None:
    """Run a function of this module in processes that know each other as accelerate's launchers arrange it."""
    port = free_port()
    processes = [start(as_rank, rank, size, port, function, *arguments) for rank in range(size)]
    for process in processes:
        process.join(patience)
    assert [process.exitcode for process in processes] == [0] * size


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def as_rank(rank: int, size: int, port: str, function: Any, *arguments: Any) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    os.environ["ACCELERATE_USE_CPU"] = "true"
    function(*arguments)
    torch.distributed.destroy_process_group()


def steps(changes: dict[str, Any], ranks: Ranks) -> list[dict[str, Any]]:
    """Losses, gradients and running statistics of each step of an epoch."""
    config = training.resolve_machine(training.config_from(tiny(Path("unused"), **{**COMMON, **changes})))
    trainer = Trainer(config, training.open_for(config, config.train_area, "train"), ranks)
    trainer.model.train()
    found = []
    for step, (queries, references) in enumerate(trainer.batches(0)):
        images = trainer.views((queries, references), 0, step)
        beside = trainer.beside(queries, 0, step)
        losses = trainer.train_step(*images, 0, step, beside)
        gradients = {name: value.grad.clone() for name, value in trainer.model.named_parameters() if value.grad is not None}
        statistics = {name: value.clone() for name, value in trainer.model.named_buffers() if "running" in name}
        found.append({"losses": losses, "gradients": gradients, "statistics": statistics, "rows": len(images[0])})
    return found


def write_steps(folder: str) -> None:
    ranks = joined("cpu")
    for name, changes in CASES.items():
        torch.save(steps(changes, ranks), Path(folder) / f"{name}-{ranks.rank}.pt")


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for changes in CASES.values():  # rendered once, before the processes start
        steps(changes, Ranks())
    folder = tmp_path_factory.mktemp("steps")
    in_processes(write_steps, str(folder))
    return folder


@pytest.mark.parametrize("case", list(CASES))
def test_losses_and_gradients_of_two_processes_are_those_of_one(case: str, spread: Path) -> None:
    alone = steps(CASES[case], Ranks())
    views = 1 if CASES[case]["sampling"] == "LS" else 2
    both = [torch.load(spread / f"{case}-{rank}.pt", weights_only=True) for rank in range(2)]
    spread_rows = [[3, 2], [2, 1]] if "n_train" in CASES[case] else [[3, 3, 2], [2, 2, 1]]
    assert [[step["rows"] for step in found] for found in both] == [[views * pairs for pairs in found] for found in spread_rows]
    for found in both:
        for step, expected in zip(found, alone, strict=True):
            for kind in ("losses", "gradients", "statistics"):
                assert step[kind].keys() == expected[kind].keys()
                for name, value in expected[kind].items():
                    assert torch.allclose(step[kind][name], value, rtol=1e-5, atol=1e-5), (kind, name)
    assert alone[-1]["gradients"]
    assert bool(alone[-1]["statistics"]) == ("backbone" not in CASES[case])


def test_every_row_is_taken_once() -> None:
    for n, size in ((13, 4), (3, 4), (0, 2), (8, 2)):
        shares = [Ranks(rank, size).share(n) for rank in range(size)]
        assert [row for share in shares for row in share] == list(range(n))
        assert [len(share) for share in shares] == Ranks(0, size).sizes(n)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_draws_what_its_rows_have_in_the_whole() -> None:
    share = Share(torch.tensor([1, 4]), 5)
    assert share.views(2).tolist() == [1, 4, 6, 9]
    whole = uniform(torch.Generator().manual_seed(3), 10, 2, 3)
    part = uniform(SharedGenerator(torch.Generator().manual_seed(3), share.views(2), 10), 4, 2, 3)
    assert torch.equal(part, whole[[1, 4, 6, 9]])


def run_twice(folder: str) -> None:
    """A run, and a second call that gives its result back."""
    config = tiny(Path(folder) / "run", **{**COMMON, "n_train": 12})
    metrics = training.run(config, progress=False)
    again = training.run(config, progress=False)
    (Path(folder) / f"metrics-{os.environ['RANK']}.json").write_text(json.dumps([metrics, again]))


def test_a_run_in_three_processes_is_the_run_of_one_and_is_written_once(tmp_path: Path) -> None:
    # Twelve places in batches of five: the last two go to two of the three.
    train(tiny(tmp_path / "alone", **{**COMMON, "n_train": 12}))
    in_processes(run_twice, str(tmp_path), size=3)
    expected = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    for rank in range(3):
        metrics, again = json.loads((tmp_path / f"metrics-{rank}.json").read_text())
        assert np.allclose(metrics["train"]["loss"], expected["train"]["loss"], atol=1e-5)
        assert metrics["evaluation"].keys() == expected["evaluation"].keys()
        for area, measured in metrics["evaluation"].items():
            assert measured["n_query"] == expected["evaluation"][area]["n_query"]
        assert metrics["train"]["processes"] == 3
        assert again == metrics
    assert sorted(os.listdir(tmp_path / "run")) == sorted(os.listdir(tmp_path / "alone"))


def write_exchanges(folder: str) -> None:
    """What one process sees of gradients that not all have, of an error in the first, and of batches that hang on embeddings."""
    ranks = joined("cpu")
    found: dict[str, Any] = {}
    weights = [nn.Parameter(torch.ones(2)) for _ in range(4)]
    weights[0].grad = torch.tensor([1.0, 2.0])  # all of them have one
    if not ranks.first:
        weights[1].grad = torch.tensor([3.0, 4.0])
    weights[3].requires_grad_(False)
    ranks.sum_gradients(weights)
    found["gradients"] = [None if weight.grad is None else weight.grad.tolist() for weight in weights]

    def fails() -> None:
        raise KeyError("r1")

    try:
        ranks.agreed(fails)
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"

    config = training.resolve_machine(training.config_from(tiny(Path("unused"), **{**COMMON, "batches": "similar"})))
    data = training.open_for(config, config.train_area, "train")
    trainer = Trainer(config, data, ranks)
    rows: list[int] = []
    ground = data.ground
    data.ground = lambda chosen: (rows.extend(chosen), ground(chosen))[1]  # type: ignore[method-assign,func-returns-value]
    if not ranks.first:  # as if this one rounded differently
        similar = geodtr_lib.trainer.similarity_neighbours
        geodtr_lib.trainer.similarity_neighbours = lambda query, *others: similar(-query, *others)
    found["batches"] = [batch.tolist() for batch, _ in trainer.batches(1)]
    found["embedded"] = sorted(rows)
    (Path(folder) / f"{ranks.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What :func:`write_exchanges` has seen in each of two processes."""
    folder = tmp_path_factory.mktemp("exchanges")
    config = training.config_from(tiny(Path("unused"), **COMMON))
    training.open_for(config, config.train_area, "train")  # rendered before the processes start
    in_processes(write_exchanges, str(folder), patience=120)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_a_parameter_without_a_gradient_anywhere_is_left_without_one(exchanged: list[dict[str, Any]]) -> None:
    """A single process leaves it alone; zeros in its place would let AdamW decay it."""
    assert [found["gradients"] for found in exchanged] == [[[2.0, 4.0], [3.0, 4.0], None, None]] * 2


def test_an_error_of_any_kind_in_the_first_process_is_raised_in_all(exchanged: list[dict[str, Any]]) -> None:
    assert [found["error"] for found in exchanged] == ["KeyError: 'r1'", "RunError: the first process failed (KeyError: 'r1')"]


def test_processes_embed_together_and_have_the_first_one_s_neighbours(exchanged: list[dict[str, Any]]) -> None:
    assert exchanged[0]["batches"] == exchanged[1]["batches"]
    assert sorted(query for batch in exchanged[0]["batches"] for query in batch) == list(range(13))
    assert [found["embedded"] for found in exchanged] == [list(range(7)), list(range(7, 13))]


def test_batch_norms_are_replaced_with_their_values_and_names() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4).eval()))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    parameters = list(net.parameters())
    synchronise(net)
    assert isinstance(net[1], SynchronisedBatchNorm)
    assert not isinstance(net[2][0], SynchronisedBatchNorm), "a frozen level keeps its statistics"
    assert net.state_dict().keys() == before.keys()
    assert all(one is other for one, other in zip(net.parameters(), parameters, strict=True))


def test_a_notebook_starts_its_own_processes(tmp_path: Path) -> None:
    code = "\n".join([
        "import sys; sys.path.insert(0, 'tests')",
        "from accelerate import notebook_launcher",
        "from test_distributed import run_twice",
        "if __name__ == '__main__': notebook_launcher(run_twice, (sys.argv[1],), num_processes=2, use_port=sys.argv[2])",
    ])  # fmt: skip
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-c", code, str(tmp_path), free_port()]
    subprocess.run(command, check=True, cwd=root, env=environment, stdout=subprocess.DEVNULL, timeout=300)
    first, second = (json.loads((tmp_path / f"metrics-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first[0]["train"]["processes"] == 2
