"""What every test shares: no display, one thread, and folders of the session's own in place of the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: on small tensors more threads only wait for each other

import matplotlib
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def session_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache and the runs go to a temporary folder, which parallel workers share: what one has rendered the others read."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEODTR_CACHE", str(root / "geodtr_cache"))
        patch.setenv("GEODTR_RUNS", str(root / "geodtr_runs"))
        patch.delenv("GEODTR_PRESET", raising=False)
        yield root


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    torch.set_num_threads(min(2, int(os.environ["OMP_NUM_THREADS"])))


@pytest.fixture(autouse=True)
def no_display() -> None:
    matplotlib.use("agg")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference numbers and data that lie beside the checkout, where there are any."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} with reference data")
    return folder
