"""Figures: arrays and tables in, a matplotlib Figure out. Nothing is shown, and no style is changed for others."""

from __future__ import annotations

from geodtr_lib.plots.batches import look_alikes, twin_views
from geodtr_lib.plots.captioned import captioned
from geodtr_lib.plots.comparisons import distance_panels, intervals, loss_bands, same_against_cross
from geodtr_lib.plots.images import descriptor_columns, descriptor_maps, example_pairs, layouts, pairs, top_retrievals
from geodtr_lib.plots.measurements import cost_bars, distance_densities, loss_curves, recall_bars
from geodtr_lib.plots.strengths import strength_curves
from geodtr_lib.plots.style import save, style

__all__ = [
    "captioned",
    "cost_bars",
    "descriptor_columns",
    "descriptor_maps",
    "distance_densities",
    "distance_panels",
    "example_pairs",
    "intervals",
    "layouts",
    "look_alikes",
    "loss_bands",
    "loss_curves",
    "pairs",
    "recall_bars",
    "same_against_cross",
    "save",
    "strength_curves",
    "style",
    "top_retrievals",
    "twin_views",
]
