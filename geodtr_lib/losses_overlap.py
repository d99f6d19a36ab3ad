"""Losses of tiles that cover a place off their centre.

Source: Zhu, Yang and Chen, "VIGOR: Cross-View Image Geo-localization beyond One-to-one Retrieval", CVPR 2021, Section 4. An offset says how
far a tile's centre lies from the camera, in halves of the tile's side: at (0, 0) the camera is at the centre, at 1 it is at the edge.
"""

from __future__ import annotations

from torch import Tensor


def tile_overlap(offset: Tensor) -> Tensor:
    """Intersection over union of a tile and the tile that has the camera at its centre, in [0, 1].

    Args:
        offset: ... x 2, in halves of a side.

    Returns:
        ``...``.
    """
    common = (1 - offset.abs() / 2).clamp(min=0).prod(-1)  # share of a tile's area
    return common / (2 - common)


def overlap_loss(positive: Tensor, semi_positive: Tensor, overlap: Tensor, smallest: float = 0.1) -> Tensor:
    """Mean of ``(s_semi / s_positive - overlap)^2``: a tile that shows less of a place should be like it in proportion.

    Args:
        positive: B similarities to the positive tile.
        semi_positive: B or B x P similarities to semi-positive tiles.
        overlap: of the same shape, the overlap of the semi-positive over that of the positive (:func:`tile_overlap`).
        smallest: similarities to the positive count as at least this much, since the ratio has no meaning near 0.

    Raises:
        ValueError: shapes that do not fit.
    """
    if semi_positive.shape != overlap.shape or positive.shape != semi_positive.shape[:1]:
        raise ValueError(f"{tuple(positive.shape)} positives, {tuple(semi_positive.shape)} semi-positives, {tuple(overlap.shape)} overlaps")
    reference = positive.clamp(min=smallest)
    ratio = semi_positive / (reference if semi_positive.ndim == 1 else reference[:, None])
    return (ratio - overlap).square().mean()


def offset_loss(found: Tensor, offset: Tensor) -> Tensor:
    """Mean squared error of offsets B x 2 that a model finds.

    Raises:
        ValueError: offsets of different shape.
    """
    if found.shape != offset.shape:
        raise ValueError(f"offsets must be two equal B x 2, not {tuple(found.shape)} and {tuple(offset.shape)}")
    return (found - offset).square().mean()
