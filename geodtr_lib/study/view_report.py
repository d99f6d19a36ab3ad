"""The recorded grid of limited views as a table and figures: less of the panorama, and not knowing where it looks. Nothing is trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from geodtr_lib.errors import RunError
from geodtr_lib.study.baseline_grid import METHODS
from geodtr_lib.study.baseline_report import method_forest, recorded_methods
from geodtr_lib.study.baseline_tables import first_area, seeds_in_common
from geodtr_lib.study.results import summarise
from geodtr_lib.study.tables import SHARE, Table, by_keys, in_order, made_by, over_seeds, with_interval

_WHOLE = "360°, north known"
_VIEW_NOTE = (
    "Where the query looks is known in the first column, and to Liu & Li, which paints directions, in all of them. Of a training area "
    "the seeds are shown that all its rows have."
)


def view_table(rows: pd.DataFrame) -> Table:
    """Methods with raw pairs, trained and tested with less of the panorama: rows of the grid of views beside those of the whole view."""
    shown = _views(rows)
    kinds = _by_share(shown["view"])
    keys = ["train_area", "protocol", "method", "view"]
    found = by_keys(keys, summarise(shown, keys))
    lines = []
    for (area, protocol), part in shown.groupby(["train_area", "protocol"], sort=False):
        for method in in_order(part["method"], list(METHODS)):
            cells = [with_interval(found.get((area, protocol, method, kind), {}), limits=SHARE) for kind in kinds]
            lines.append([area, f"{protocol}-area", method, f"{part['seed'].nunique()}", *cells])
    note = f"R@1 in percent, trained and tested with the same view and raw pairs; {over_seeds(shown)}. {_VIEW_NOTE}"
    title = "Less of the panorama, and not knowing where it looks"
    return Table("views", title, ["trained on", "tested", "method", "seeds", *kinds], lines, [note, made_by(shown)])


def view_tables(folder: str | Path) -> list[Table]:
    """:func:`view_table` of what is recorded; none where nothing is.

    Raises:
        RunError: the table cannot be read.
    """
    frame = recorded_methods(folder)
    return [view_table(frame)] if len(frame) and frame["grid"].eq("views").any() else []


def view_intervals(rows: pd.DataFrame) -> Figure:
    """Same-area recall of each method by what the query shows of the panorama, in the first area that was trained on."""
    shown = first_area(_views(rows))
    found = summarise(shown[shown["protocol"] == "same"], ["method", "view"])
    told = set(shown.loc[(shown["grid"] == "views") & (shown["heading"] == "north"), "method"])
    found["label"] = [f"{method} (north known)" if method in told else method for method in found["method"]]
    xlabel = f"same-area R@1 (%), trained on {shown['train_area'].iloc[0]}, raw pairs; heading unknown where not said"
    return method_forest(found, "view", _by_share(found["view"]), xlabel)


def view_recalls(folder: str | Path, dataset: str) -> Figure:
    """:func:`view_intervals` of what is recorded on one data set.

    Raises:
        RunError: nothing is.
    """
    frame = recorded_methods(folder)
    rows = frame[frame["dataset"] == dataset] if len(frame) else frame
    if rows.empty or not rows["grid"].eq("views").any():
        raise RunError(f"no limited view on {dataset} is recorded yet")
    return view_intervals(rows)


def _views(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with limited views and those of the same methods with the whole one, by raw pairs, with the column ``view``.

    Of each training area the seeds that all its methods have with every view that is there: each seed is another city.
    """
    limited = rows["grid"] == "views"
    whole = (rows["grid"] == "methods") & (rows["sampling"] == "raw")
    parts = []
    for _, part in rows[limited | whole].groupby("train_area", sort=False):
        tried = part.loc[part["grid"] == "views", "method"]
        parts.append(seeds_in_common(part[part["method"].isin(tried)], ("method", "heading", "fov")))
    shown = pd.concat(parts)
    names = shown["fov"].map("{:g}°".format)
    return shown.assign(view=names.where(shown["grid"] == "views", _WHOLE))


def _by_share(views: pd.Series) -> list[str]:
    """Each view once, the one that tells most first."""
    return sorted(set(views), key=lambda view: (view != _WHOLE, -float(view.partition("°")[0])))
