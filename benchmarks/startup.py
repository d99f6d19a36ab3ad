"""Time to import, to the first batch and to the first step, each in a process of its own.

    python benchmarks/startup.py

The rendered data are in the cache by then; the first call makes them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from measuring import arguments, finish

PROGRAMS = {
    "python with torch, timm and torchvision": "import torch, timm, torchvision",
    "import geodtr_lib": "import geodtr_lib",
    "import geodtr_lib.training": "import geodtr_lib.training",
    "to the first batch of small": """
import geodtr_lib.training as t
from geodtr_lib.config import resolve_config
from geodtr_lib.data import open_for
config = t.resolve_machine(resolve_config("small"))
trainer = t.Trainer(config, open_for(config, config.train_area, "train"))
trainer.views(trainer.batches(0)[0], 0, 0)
""",
}
PROGRAMS["to the end of the first step of small"] = (
    PROGRAMS["to the first batch of small"] + "trainer.train_step(*trainer.views(trainer.batches(0)[0], 0, 0), 0, 0)\n"
)


def main() -> int:
    chosen = arguments(__doc__).parse_args()
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for repetition in range(-1, chosen.repetitions):
        for name, program in PROGRAMS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
            if repetition >= 0:
                times[name].append(time.perf_counter() - began)
    rows = [{"figure": f"{name}, seconds", "value": statistics.median(values)} for name, values in times.items()]
    finish("startup", {"repetitions": chosen.repetitions}, rows, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
