"""Looking inside a trained model, as plain functions: what the widgets of JupyterLab, a static notebook and a test all call."""

from __future__ import annotations

from geodtr_lib.explore.localization import Localizer, compare_areas
from geodtr_lib.explore.photographs import photographed_ranks, photographed_table
from geodtr_lib.explore.runs import Run, areas_of, choose_pair, default_pair, find_runs, open_run
from geodtr_lib.explore.session import Curve, Look, Pose, Session
from geodtr_lib.explore.show import Choice, answer, draw, picture_of
from geodtr_lib.explore.turning import field_of_view_table, heading_table, turning_curves
from geodtr_lib.explore.weather import weather_strip, weather_table

__all__ = [
    "Choice",
    "Curve",
    "Localizer",
    "Look",
    "Pose",
    "Run",
    "Session",
    "answer",
    "areas_of",
    "choose_pair",
    "compare_areas",
    "default_pair",
    "draw",
    "field_of_view_table",
    "find_runs",
    "heading_table",
    "open_run",
    "photographed_ranks",
    "photographed_table",
    "picture_of",
    "turning_curves",
    "weather_strip",
    "weather_table",
]
