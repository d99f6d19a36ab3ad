"""Draw the committed figures and tables again, from ``results/`` and without training: ``make figures``, or some by ``NAME...``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from geodtr_lib import data, paths, plots
from geodtr_lib.data.base import PairDataset
from geodtr_lib.errors import ConfigError, GeoDTRError, RunError
from geodtr_lib.files import write_bytes
from geodtr_lib.study import baseline_report, environment_report, paper_figures, view_report
from geodtr_lib.study.claims import Study, claims_table
from geodtr_lib.study.readme import documents, with_block
from geodtr_lib.study.recorded_tables import recorded_tables

RESULTS_FOLDER = paths.repository() / "results"


def _places(name: str, area: str, n: int = 24, ground_size: tuple[int, int] = (128, 512), tile_size: int = 192) -> PairDataset:
    """Places of an embedded area, in more detail than a model needs."""
    return data.open_dataset(name, area=area, split="test", n=n, ground_size=ground_size, tile_size=tile_size)


def pairs_city() -> Figure:
    """One pair of each procedural style."""
    return plots.example_pairs([_places("city", area) for area in data.areas("city")], index=3)


def pairs_osm() -> Figure:
    """One pair of each real city."""
    return plots.example_pairs([_places("osm", area) for area in data.areas("osm")], index=3)


def layouts() -> Figure:
    """The eight layouts of one pair."""
    places = _places("city", data.areas("city")[0])
    return plots.layouts(places.aerial([3])[0], places.ground([3])[0])


def fig4_5_batches() -> Figure:
    """What LS and CHSG make of the same places."""
    places = data.open_dataset("city", area="oldtown", split="test", n=24, ground_size=(64, 256), tile_size=128)
    headings = {"LS: one view of each place": "LS", "CHSG: two views of each place, twins are negatives": "L+S"}
    return plots.twin_views(places, [1, 5, 9], headings)


def fig6_look_alikes() -> Figure:
    """The two places of each kind of city that look most alike from above, of 500; drawn for the first time it takes a minute."""
    areas = [(name, area) for name in ("city", "osm") for area in data.areas(name)]
    return plots.look_alikes([_places(name, area, 500, (96, 384), 144) for name, area in areas])


def claim_differences() -> Figure:
    """The claims as differences with their intervals."""
    return paper_figures.claim_differences(claims_table(Study.read(RESULTS_FOLDER)))


def chsg_step() -> Figure:
    """CHSG over LS at equal views, under each condition of the extra grid."""
    return paper_figures.chsg_step(Study.read(RESULTS_FOLDER).runs)


FIGURES: dict[str, Callable[[], Figure]] = {
    **{figure.__name__: figure for figure in (pairs_city, pairs_osm, layouts, fig4_5_batches, fig6_look_alikes)},
    "recalls": partial(paper_figures.recalls, RESULTS_FOLDER),
    "fig1_same_against_cross": partial(paper_figures.figure1, RESULTS_FOLDER),
    "fig7a_descriptors_polar": partial(paper_figures.figure7, RESULTS_FOLDER),
    "fig7b_descriptors_square": partial(paper_figures.figure7, RESULTS_FOLDER, polar=False),
    "fig8a_gle_polar": partial(paper_figures.figure8, RESULTS_FOLDER),
    "fig8b_gle_square": partial(paper_figures.figure8, RESULTS_FOLDER, polar=False),
    "fig9_losses": partial(paper_figures.figure9, RESULTS_FOLDER),
    "fig10_distances_city": partial(paper_figures.figure10, RESULTS_FOLDER, "city"),
    "fig10_distances_osm": partial(paper_figures.figure10, RESULTS_FOLDER, "osm"),
    "chsg_step": chsg_step,
    "claims": claim_differences,
    "methods_city": partial(baseline_report.method_recalls, RESULTS_FOLDER, "city"),
    "methods_osm": partial(baseline_report.method_recalls, RESULTS_FOLDER, "osm"),
    "views_city": partial(view_report.view_recalls, RESULTS_FOLDER, "city"),
    "views_osm": partial(view_report.view_recalls, RESULTS_FOLDER, "osm"),
    "environments_same": partial(environment_report.environment_curves, RESULTS_FOLDER, "same"),
    "environments_cross": partial(environment_report.environment_curves, RESULTS_FOLDER, "cross"),
}


def main(names: list[str]) -> int:
    """Draw these figures, or all of them, all tables, and the generated blocks of the documents.

    A figure that no recorded run is enough for is left out, and said so.
    """
    try:
        for name in names or FIGURES:
            if name not in FIGURES:
                raise ConfigError(f"unknown figure {name!r}; known: {', '.join(FIGURES)}")
            try:
                figure = FIGURES[name]()
            except RunError as error:
                print(f"{name} left out: {error}")
                continue
            for path in plots.save(figure, paths.figures_folder() / name):
                print(path)
        if not names:
            for table in recorded_tables(RESULTS_FOLDER):
                for kind, text in (("md", table.markdown()), ("tex", table.latex())):
                    write_bytes(paths.figures_folder() / "tables" / f"{table.name}.{kind}", text.encode())
            print(paths.figures_folder() / "tables")
            for name, blocks in documents(RESULTS_FOLDER).items():
                document = paths.repository() / name
                text = document.read_text(encoding="utf-8")
                for block, content in blocks.items():
                    text = with_block(text, block, content)
                write_bytes(document, text.encode())
                print(document)
    except GeoDTRError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
