"""Descriptors that turn with the image: an option beyond the paper.

Layout simulation turns and mirrors a pair. Descriptors that say how a place is laid out should turn and mirror with it, which nothing in
the paper's objective asks for. With several views of a pair (CHSG) it can be asked: undo each view's layout on its descriptors, and they
should be the same.
"""

from __future__ import annotations

from torch import Tensor

from geodtr_lib.geometry import invert_layout, layout_aerial, layout_ground


def consistency_loss(descriptors: Tensor, flip: Tensor, turns: Tensor, square: bool = False) -> Tensor:
    """Mean squared difference between two views of a pair of the descriptors with their layouts undone; over all pairs of views.

    Where the width of the descriptors is not divisible by 4, a quarter turn is exact to less than one column.

    Args:
        descriptors: VB x K x h x w, view after view, of one branch.
        flip: V x B bools, the layouts of the views (``sampling.draw_layouts``).
        turns: V x B integers.
        square: the images are square tiles, which turn as such; otherwise panoramas or unrolled tiles, which roll.

    Raises:
        ValueError: fewer than two views.
    """
    views = len(flip)
    if views < 2:
        raise ValueError("one view of each pair has nothing to be consistent with")
    back = invert_layout(flip.flatten(), turns.flatten())
    undone = layout_aerial(descriptors, *back) if square else layout_ground(descriptors, *back)
    # Twice the variance is the mean squared difference of two.
    difference: Tensor = 2 * undone.float().unflatten(0, (views, -1)).var(dim=0).mean()
    return difference
