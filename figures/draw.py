"""Draw the committed figures again: ``make figures``, or ``python figures/draw.py NAME...`` for some of them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from matplotlib.figure import Figure

from geodtr_lib import data, paths, plots
from geodtr_lib.data.base import PairDataset
from geodtr_lib.errors import ConfigError, GeoDTRError
from geodtr_lib.files import write_bytes
from geodtr_lib.study import summarise
from geodtr_lib.study.readme import committed_results, results_block, with_results


def _places(name: str, area: str) -> PairDataset:
    """A few places of an embedded area, in more detail than a model needs."""
    return data.open_dataset(name, area=area, split="test", n=24, ground_size=(128, 512), tile_size=192)


def pairs_city() -> Figure:
    """One pair of each procedural style."""
    return plots.example_pairs([_places("city", area) for area in data.areas("city")], index=3)


def pairs_osm() -> Figure:
    """One pair of each real city."""
    return plots.example_pairs([_places("osm", area) for area in data.areas("osm")], index=3)


def recalls() -> Figure:
    """Same-area and cross-area recall of each sampling, from the committed results."""
    results = committed_results(paths.repository() / "results")
    chosen = results[(results["dataset"] == "city") & (results["n_desc"] == 8)]
    order = chosen["sampling"].map({"raw": 0, "LS": 1, "L+S": 2})
    return plots.recall_bars(summarise(chosen.iloc[order.argsort(kind="stable")], ["sampling", "protocol"]), x="sampling")


def layouts() -> Figure:
    """The eight layouts of one pair."""
    places = _places("city", data.areas("city")[0])
    return plots.layouts(places.aerial([3])[0], places.ground([3])[0])


FIGURES: dict[str, Callable[[], Figure]] = {figure.__name__: figure for figure in (pairs_city, pairs_osm, layouts, recalls)}


def main(names: list[str]) -> int:
    """Draw these figures, or all of them and the README's table of results."""
    try:
        for name in names or FIGURES:
            if name not in FIGURES:
                raise ConfigError(f"unknown figure {name!r}; known: {', '.join(FIGURES)}")
            for path in plots.save(FIGURES[name](), paths.figures_folder() / name):
                print(path)
        if not names:
            readme = paths.repository() / "README.md"
            results = committed_results(paths.repository() / "results")
            write_bytes(readme, with_results(readme.read_text(), results_block(results)).encode())
            print(readme)
    except GeoDTRError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
