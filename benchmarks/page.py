"""Write benchmarks/README.md from the results in benchmarks/results/: no number in it is typed by hand.

python benchmarks/page.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from measuring import RESULTS

from geodtr_lib.files import read_json, write_bytes

HERE = Path(__file__).parent
HEAD = """# Benchmarks

One command each; `--help` says more. Figures are ratios measured in one run, in which what is compared takes turns, and medians of the
repetitions; so they hold on a machine whose speed drifts. Where a benchmark has
`--json benchmarks/results/NAME.json`, it stores its result, and `python benchmarks/page.py` writes this page of them. Each figure is of
the commit that stands above it. Nothing here runs in the tests.

| command | measures |
|---|---|
| `training.py` | training end to end against the bare step; CHSG's step against a plain one; bf16 against fp32 |
| `stages.py` | decoding, resizing, polar transform, layouts, semantic augmentation and losses, each alone |
| `evaluation.py` | exact ranks against one bare matrix product; half precision; nearest neighbours |
| `precision.py` | recall and training time in bf16 against float32, several seeds |
| `rendering.py` | drawing the embedded cities |
| `startup.py` | import, first batch, first step |
| `explore.py` | how long a slider of explore.ipynb and localize.ipynb waits |
| `soak.py` | what fifty runs in one process leave behind: memory, files, threads |
| `cvact_test_memory.py` | memory of ranking a gallery of CVACT_test's size |

torch.profiler's tables of the training step are in [profiles/](profiles/).
"""


def main() -> int:
    parts = [HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        found = read_json(path)
        versions = found["versions"]
        settings = ", ".join(f"{key} {value}" for key, value in found["settings"].items())
        machine = f"{versions['machine']}; torch {versions['torch']}; commit {versions['commit']}."
        lines = [f"## {path.stem}", "", f"{settings}.", machine, ""]
        lines += ["| figure | value | asked |", "|---|---|---|"]
        lines += [f"| {row['figure']} | {row['value']:.3g} | {row.get('bound', '')} |" for row in found["rows"]]
        parts.append("\n".join(lines) + "\n")
    write_bytes(HERE / "README.md", "\n".join(parts).encode())
    print(HERE / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
