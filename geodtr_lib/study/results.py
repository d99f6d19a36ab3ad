"""The results of many runs as one table: collected, averaged over seeds, compared seed by seed; intervals throughout."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from geodtr_lib.config import RunConfig
from geodtr_lib.errors import ConfigError, RunError
from geodtr_lib.run_folder import read_metrics


def collect(runs_dir: str | Path) -> pd.DataFrame:
    """One row per run and area, from every ``metrics.json`` under ``runs_dir``.

    Columns: ``run`` (folder), ``area``, ``protocol``, ``n_query``, ``n_gallery``, the recalls in [0, 1]; every configuration
    value under its own name; ``seconds``, ``pairs_per_second``, ``final_loss`` and what else was measured in training;
    ``version_*`` and ``data_*``. Lists are JSON text. Unfinished runs have no ``metrics.json`` and no row; files that cannot
    be read are named in one warning.

    Raises:
        RunError: ``runs_dir`` does not exist.
    """
    runs_dir = Path(runs_dir)
    if not runs_dir.is_dir():
        raise RunError(f"{runs_dir} is not a folder; give the folder of the runs")
    rows: list[dict[str, Any]] = []
    unreadable = []
    for path in sorted(runs_dir.rglob("metrics.json")):
        try:
            rows += _rows(path.parent, read_metrics(path.parent))
        except RunError as error:
            unreadable.append(str(error))
        except (AttributeError, KeyError, TypeError, ValueError):
            unreadable.append(str(path))
    if unreadable:
        warnings.warn(f"not readable as results, left out: {', '.join(unreadable)}", stacklevel=2)
    return pd.DataFrame(rows)


def _rows(run: Path, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    config = {name: json.dumps(value) if isinstance(value, (list, dict)) else value for name, value in metrics["config"].items()}
    # A curve is told by its last value; `loss` alone would hide the configuration's.
    train = {f"final_{key}": value[-1] if value else None for key, value in metrics["train"].items() if isinstance(value, list)}
    train |= {key: value for key, value in metrics["train"].items() if not isinstance(value, (list, dict)) and key not in config}
    versions = {f"version_{key}": value for key, value in metrics["versions"].items() if not isinstance(value, (list, dict))}
    data = {f"data_{key}": value for key, value in metrics["data"].items() if not isinstance(value, (list, dict))}
    common = {**config, **train, "evaluation_seconds": metrics.get("evaluation_seconds"), **versions, **data}
    evaluation = metrics["evaluation"]
    return [
        {"run": str(run), "area": area, **{key: value for key, value in measured.items() if np.isscalar(value)}, **common}
        for area, measured in evaluation.items()
    ]


def summarise(frame: pd.DataFrame, by: str | Sequence[str], value: str = "r1", *, over: str = "seed") -> pd.DataFrame:
    """Mean of ``value`` in each group, with its 95 % t-interval over seeds.

    Areas of one seed that fall into one group are averaged first, so that n counts seeds and not areas.

    Args:
        frame: as :func:`collect` gives it.
        by: column or columns that make the groups.
        value: column to average.
        over: column that names the repetitions.

    Returns:
        The columns ``by``, then ``mean``, ``low``, ``high`` (NaN for fewer than three seeds) and ``n``.

    Raises:
        ConfigError: a column is missing, or one group mixes different configurations for the same seed and area.
    """
    groups = _columns(by)
    frame = _one_run_each(frame, [*groups, over], value)
    return _intervals(frame.groupby([*groups, over], sort=False, dropna=False)[value].mean(), groups)


def paired_difference(
    frame: pd.DataFrame,
    by: str | Sequence[str],
    reference: Any,
    value: str = "r1",
    *,
    within: str | Sequence[str] = (),
    over: str = "seed",
) -> pd.DataFrame:
    """Mean difference of each group to the reference group, seed by seed, with its 95 % t-interval.

    Rows are paired that agree in seed, area and the columns ``within``; what only one of the two groups has is left out.

    Args:
        frame: as :func:`collect` gives it.
        by: column or columns that make the groups, e.g. ``"sampling"``.
        reference: the reference group's value (a sequence or mapping of values for several columns).
        value: column to compare.
        within: columns for which the comparison is made separately, e.g. ``"protocol"``.
        over: column that names the repetitions.

    Returns:
        The columns ``within`` and ``by``, then ``mean`` (group minus reference), ``low``, ``high`` (NaN for fewer than three) and
        ``n`` (seeds in both).

    Raises:
        ConfigError: a column is missing, the reference is not in the table, or groups mix different configurations.
    """
    groups, inside = _columns(by), _columns(within)
    frame = _one_run_each(frame, [*inside, *groups, over], value)
    wanted = reference if isinstance(reference, Mapping) else dict(zip(groups, reference if len(groups) > 1 else [reference], strict=True))
    is_reference = np.logical_and.reduce([frame[name] == wanted[name] for name in groups])
    if not is_reference.any():
        present = frame[groups].drop_duplicates().to_dict("records")
        raise ConfigError(f"reference {wanted} is not in the table; present: {present}")
    keys = [*dict.fromkeys([*inside, over, "area"])]
    pairs = frame[~is_reference].merge(frame.loc[is_reference, [*keys, value]], on=keys, suffixes=("", "_reference"))
    pairs["difference"] = pairs[value] - pairs[f"{value}_reference"]
    return _intervals(pairs.groupby([*inside, *groups, over], sort=False, dropna=False)["difference"].mean(), [*inside, *groups])


def _intervals(per_seed: pd.Series, groups: list[str]) -> pd.DataFrame:
    """:func:`t_interval` of each group; no row where there is nothing."""
    if per_seed.empty:
        return pd.DataFrame(columns=[*groups, "mean", "low", "high", "n"])
    return per_seed.groupby(level=groups, sort=False, dropna=False).apply(t_interval).unstack().reset_index().astype({"n": int})


def _columns(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


FEWEST = 3
"""Values that have an interval: that of two is known to nobody, it is thirteen standard errors wide either way."""


def t_interval(values: pd.Series) -> pd.Series:
    """``mean``, ``low`` and ``high`` of the 95 % t-interval (NaN for fewer than three values), and ``n``, of the values that are known."""
    values = values.dropna()
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n >= FEWEST else np.nan
    return pd.Series({"mean": values.mean(), "low": values.mean() - half, "high": values.mean() + half, "n": n})


def _one_run_each(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    """``frame`` without rows that lack ``value``, after checking that ``keys`` and area name one row each."""
    for name in [*keys, value, "area"]:
        if name not in frame.columns:
            present = ", ".join(map(str, frame.columns)) or "none, as no run is finished"
            raise ConfigError(f"the table has no column {name!r}; it has: {present}")
    frame = frame.dropna(subset=[value])
    keys = [*dict.fromkeys([*keys, "area"])]
    repeated = frame[frame.duplicated(keys, keep=False)]
    if len(repeated):
        differ = [name for name in RunConfig.model_fields if name in repeated and name != "run_dir" and repeated[name].nunique() > 1]
        raise ConfigError(
            f"several runs have the same {', '.join(keys)}; they differ in {', '.join(differ) or 'nothing'}: "
            "group by it, or keep one value of it"
        )
    return frame
