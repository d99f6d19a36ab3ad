"""``docs/published.md``: every published row of GeoDTR and GeoDTR+ with the command that makes it."""

from __future__ import annotations

from itertools import groupby

from geodtr_lib.study.commands import PublishedRow, printed_rows, trainings
from geodtr_lib.study.report import RECALL_HEADINGS

_OPENING = """\
# The published rows, and the command for each

Every row of Tables I to VI and VIII of the GeoDTR+ paper that is GeoDTR or GeoDTR+, with the run that makes it. The rows of other methods
are cited in `geodtr_lib/published/` and not made here. `python -m geodtr_lib.study published` writes this page.

- A run is one command of the [list below](#runs), for a GPU. It trains, and evaluates every area that its rows need: *area* is where
  `metrics.json` has the row.
- Run a command in the folder that holds `notebooks/`, after `mkdir -p runs`, with the data sets, or links to them, in `data/CVUSA`,
  `data/CVACT` and `data/VIGOR`. Without one of them, leave its area out of `test_areas`.
- The paper takes the epoch that is best on the reported test split, and a tie counts for the method. A run reports the last epoch, and a
  tie counts against the query; with `-p best_epoch True -p ties strict` it does as the paper (`best_epoch` in `metrics.json`, of the area
  that it is trained on; `-p weights best` tells `evaluate.ipynb` to take that epoch).
- CVUSA's test list has 43 tiles twice, and with ties against the query each costs two: up to 0.97 points. `evaluate.ipynb` prints both
  rules, so that *measured, ties as published* compares with the published row.
- On a GPU that multiplies bf16 a run computes in it; with `-p precision fp32` it does as the release. ConvNeXt-T starts from timm's weights
  of ImageNet-1k, where the release takes torchvision's, of another recipe.
- A model that is trained already, ours or the authors', is tested on any data set without training:

```sh
papermill notebooks/evaluate.ipynb runs/evaluate.ipynb -p run_dir runs/cvusa-geodtr-plus -p dataset cvact -p data_root data/CVACT
papermill notebooks/evaluate.ipynb runs/evaluate.ipynb -p checkpoint FOLDER_OR_PTH -p dataset cvusa -p data_root data/CVUSA
```
"""

_NOTES = """\
## Notes

a. The paper does not say when a query of CVACT_test counts as found. The run counts its own tile;
`papermill notebooks/evaluate.ipynb runs/evaluate.ipynb -p run_dir runs/NAME -p area cvact_test` counts that, and any tile within 5 m.

b. VIGOR has several panoramas to a tile. A batch of ours holds no two queries that share a reference;
`-y 'options: {overlapping_negatives: true}'` draws batches as the release does.

c. The paper says that all of Table IV is trained with LS. Its row of ConvNeXt-T without CHSG has, for CVUSA, the very numbers of the *Raw*
rows of Tables VI and VIII; with LS it is 58.62 across areas, not 53.65. So the command trains on raw pairs, for CVACT too, where that is a
guess; `-p sampling LS` does as the text says.

d. GLE v1 with CHSG is in neither release. The command normalises images as the release of GeoDTR+ does.

e. *L only* and *S only* are read as one view of each pair (the paper calls them inter-batch). `L2` and `S2` make two views, as the other
variants do.

Table VII is no training. Of GeoDTR+ it counts the two backbones only, 24.7 M of 30.19 M parameters; of GeoDTR the whole model, 48.5 M
(`geodtr_lib.models.geodtr.count_parameters`).
"""


def published_document() -> str:
    """The text of ``docs/published.md``."""
    sections = [_section(table, list(rows)) for table, rows in groupby(printed_rows(), key=lambda pair: pair[1].table)]
    runs = "\n".join(f"### {training.name}\n\n```sh\n{training.command()}\n```\n" for training in trainings())
    return "\n".join([_OPENING, *sections, _NOTES, f"## Runs\n\n{runs}"])


def _section(table: str, rows: list[tuple[str, PublishedRow]]) -> str:
    names = list(rows[0][1].recalls)
    head = ["row", *(RECALL_HEADINGS[name] for name in names), "run", "area"]
    lines = [head, ["---"] * len(head)]
    for run, row in rows:
        label = f"{row.label} ({row.note})" if row.note else row.label
        lines.append([label, *(f"{row.recalls[name]:.2f}" for name in names), f"[{run}](#{run})", f"`{row.area}`"])
    return f"## {table}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
