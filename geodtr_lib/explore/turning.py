"""Turning many panoramas, and narrowing their view: what one picture shows, as numbers with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from geodtr_lib.evaluation import recall_interval
from geodtr_lib.explore.session import STEP, Pose, Session


def turning_curves(sessions: Mapping[str, Session], n: int = 32, step: float = STEP) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Curves of the first n queries: for each name the angles (A) and the distances to the true tile, n x 2 x A.

    Args:
        sessions: runs by name.
        n: queries; fewer where there are fewer.
        step: degrees between angles.
    """
    found = {}
    for name, session in sessions.items():
        places = range(min(n, len(session.dataset)))
        pictures = torch.stack([session.panorama(place) for place in places])
        curves = session.curves(pictures, positive=[int(session.dataset.positive[place]) for place in places], step=step)
        found[name] = curves[0].angle, np.stack([curve.distance for curve in curves])
    return found


def heading_table(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], tolerance: float = 10.0) -> pd.DataFrame:
    """How well the heading is told from the curves of :func:`turning_curves`, and how sharply the match depends on it.

    Returns:
        One row per run: ``run``, ``heading within <tolerance>°`` (share of queries, with ``low`` and ``high``, Wilson's 95 %), ``chance``,
        ``contrast`` (mean distance at all other angles minus that at 0), ``mirrored minus as it is`` (at angle 0), ``n``.
    """
    rows = []
    for name, (angle, distance) in curves.items():
        plain, n = distance[:, 0], len(distance)
        error = np.abs(angle[plain.argmin(1)])
        right = float((error <= tolerance).mean())
        low, high = recall_interval(right, n)
        north = int(np.abs(angle).argmin())
        others = np.delete(plain, north, axis=1)
        rows.append({
            "run": name, f"heading within {tolerance:g}°": right, "low": low, "high": high,
            "chance": float((np.abs(angle) <= tolerance).mean()),
            "contrast": float((others.mean(1) - plain[:, north]).mean()),
            "mirrored minus as it is": float((distance[:, 1, north] - plain[:, north]).mean()), "n": n,
        })  # fmt: skip
    return pd.DataFrame(rows)


def field_of_view_table(sessions: Mapping[str, Session], views: Sequence[float] = (360, 180, 120, 90, 60), n: int = 128) -> pd.DataFrame:
    """R@1 of models of whole panoramas that are given less.

    Returns:
        One row per run and field of view: ``run``, ``fov``, ``r1`` with ``low`` and ``high`` (Wilson's 95 %), ``chance``, ``n``.
    """
    rows = []
    for name, session in sessions.items():
        places = range(min(n, len(session.dataset)))
        for fov in views:
            looks = [session.look(session.panorama(place), Pose(fov=fov), int(session.dataset.positive[place]), 1) for place in places]
            r1 = float(np.mean([look.rank == 1 for look in looks]))
            low, high = recall_interval(r1, len(looks))
            row = {"run": name, "fov": fov, "r1": r1, "low": low, "high": high, "chance": 1 / len(session.reference), "n": len(looks)}
            rows.append(row)
    return pd.DataFrame(rows)
