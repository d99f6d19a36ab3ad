"""A training in another process, so that a notebook goes on meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geodtr_lib.config import RunConfig, resolve_config
from geodtr_lib.files import digest
from geodtr_lib.paths import runs_folder

LOG = "training.log"


def larger(config: RunConfig, preset: str = "small") -> dict[str, Any]:
    """Values of a larger training than a shipped run's, on its data: all eight descriptors, twice as long, with CHSG."""
    data = {"dataset": config.dataset, "train_area": config.train_area, "data_root": config.data_root}
    values = {"preset": preset, **data, "sampling": "L+S"}
    return {**values, "n_desc": 8, "epochs": 2 * resolve_config(**values).epochs}


class BackgroundTraining:
    """Starts ``python -m geodtr_lib.explore train`` with these values; what it says goes to ``training.log`` in its run's folder."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.folder = Path(str(values.get("run_dir") or runs_folder() / f"larger-{digest(dict(values))[:8]}"))
        self.folder.mkdir(parents=True, exist_ok=True)
        pairs = [f"{name}={value}" for name, value in {**values, "run_dir": self.folder}.items() if value not in ("", None)]
        with open(self.folder / LOG, "wb") as log:
            command = [sys.executable, "-m", "geodtr_lib.explore", "train", *pairs]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    @property
    def running(self) -> bool:
        """Is it still going on?"""
        return self.process.poll() is None

    @property
    def succeeded(self) -> bool:
        """Did it end well?"""
        return self.process.poll() == 0

    def last_line(self) -> str:
        """What it said last."""
        text = (self.folder / LOG).read_text(errors="replace").replace("\r", "\n").strip()
        return text.rpartition("\n")[2] or "starting"
