"""A trained run on an area, ready to be asked: what does it see in this picture, and where does it think that it was taken?"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geodtr_lib import data
from geodtr_lib.data.base import PairDataset
from geodtr_lib.data.inputs import fit_aerial, fit_ground, normalise, prepare_ground, to_unit_range
from geodtr_lib.data.photos import mean_colour
from geodtr_lib.data.scenes import Scenes
from geodtr_lib.errors import ConfigError
from geodtr_lib.evaluation import embed
from geodtr_lib.geometry import crop_field_of_view, layout_ground, polar_transform
from geodtr_lib.models import GeoDTR
from geodtr_lib.study.trained import Trained, target_config

STEP = 10.0  # degrees between the turns of a curve
_REMEMBERED = 16  # pictures whose curves are kept
Value = TypeVar("Value")


@dataclass(frozen=True)
class Pose:
    """How a panorama is shown to a model.

    Attributes:
        heading: degrees clockwise from north that the middle column looks to.
        mirrored: east and west are exchanged, before turning.
        fov: degrees that are seen; the rest is the mean colour.
    """

    heading: float = 0.0
    mirrored: bool = False
    fov: float = 360.0

    def __post_init__(self) -> None:
        if not 0 < self.fov <= 360:
            raise ConfigError(f"field of view {self.fov:g} is not possible; allowed: more than 0 to 360 degrees")


@dataclass(frozen=True)
class Look:
    """What a model makes of one picture; M tiles in the gallery, K descriptors.

    Attributes:
        shown: uint8 3 x H x W, the picture as the model gets it.
        descriptors: K x h x w.
        index, distance, metres: of the k nearest tiles, nearest first; squared L2 distance in [0, 4]; metres from the true place, or NaN.
        positive: index of the true tile, or None.
        rank: of the true tile, 1 is best (ties against it); 0 when there is none.
        to_positive: distance to the true tile, NaN when there is none.
    """

    shown: Tensor
    descriptors: Tensor
    index: np.ndarray
    distance: np.ndarray
    metres: np.ndarray
    positive: int | None
    rank: int
    to_positive: float


@dataclass(frozen=True)
class Curve:
    """Distance of a picture to a tile against the angle that the picture is turned by.

    Attributes:
        angle: A degrees, ascending in [-180, 180); 0 is the picture as it is.
        distance: 2 x A, squared L2: as it is, and mirrored. To the true tile, or to the nearest one where none is known.
    """

    angle: np.ndarray
    distance: np.ndarray

    def best(self, mirrored: bool = False) -> float:
        """The angle of the smallest distance, degrees."""
        return float(self.angle[self.distance[int(mirrored)].argmin()])

    def estimated_heading(self, heading: float, mirrored: bool = False) -> float:
        """The heading in [-180, 180) that the model would give to the picture turned to ``heading``: what makes its match best."""
        return (heading - self.best(mirrored) + 180) % 360 - 180


class Session:
    """A trained run on an area.

    Opening embeds the area's tiles once (seconds for a small model); a question then costs one pass of one picture.

    Args:
        trained: see :func:`geodtr_lib.study.trained.open_trained`.
        area: of its data set, or ``dataset:area``; empty = where it was trained.
        given: values that evaluation can choose, such as ``n_test``.
        dataset: the pairs, where they are open already (two runs on the same places).
        progress: show bars.

    Raises:
        ConfigError, DatasetError: an area that there is not, or a value that the model cannot take.
    """

    def __init__(
        self, trained: Trained, area: str = "", given: Mapping[str, Any] | None = None, *, dataset: PairDataset | None = None,
        progress: bool = False,
    ) -> None:  # fmt: skip
        if not isinstance(trained.model, GeoDTR):
            raise ConfigError(f"model: {trained.path} is {trained.config.model!r}; only geodtr has descriptors to look at")
        named, _, self.area = (area or trained.trained_on).rpartition(":")
        values = {**(given or {}), **({"dataset": named} if named else {})}
        self.trained = trained
        self.config = target_config(trained, values, self.area)
        # Convolutions on a CPU are nearly twice as fast in this memory format.
        self.model: GeoDTR = trained.model.to(self.config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dataset = data.open_for(self.config, self.area, "test") if dataset is None else dataset
        self.reference = embed(
            self.model, self.dataset, "aerial", self.config.aerial_size, polar=self.config.polar, normalisation=self.config.normalisation,
            batch_size=self.config.eval_batch_size, progress=progress,
        )  # fmt: skip
        self._curves: OrderedDict[Any, Any] = OrderedDict()
        self._aerial: OrderedDict[Any, Any] = OrderedDict()

    @cached_property
    def _exact_reference(self) -> Tensor:
        return self.reference.double()  # M x D

    @property
    def n_desc(self) -> int:
        """K, the number of descriptors."""
        return self.model.n_desc

    @property
    def name(self) -> str:
        """How the run was trained, for titles."""
        config = self.trained.config
        return f"{'CHSG' if config.sampling == 'L+S' else config.sampling}, trained on {config.train_area}"

    @cached_property
    def scenes(self) -> Scenes:
        """The area's worlds, to see its places in other light; drawn when first asked for.

        Raises:
            DatasetError: the pictures are photographs.
        """
        return Scenes(self.config, self.area)

    def panorama(self, place: int) -> Tensor:
        """The data set's own picture of a place, uint8 3 x H x W at the model's size.

        Raises:
            ConfigError: no such place.
        """
        if not 0 <= place < len(self.dataset):
            raise ConfigError(f"there is no place {place}; there are {len(self.dataset)}, counted from 0")
        return fit_ground(self.dataset.ground([place]), self.config.ground_size)[0]

    def tile(self, index: int) -> Tensor:
        """An aerial tile as the data set has it, uint8."""
        return self.dataset.aerial([index])[0]

    def aerial(self, index: int) -> tuple[Tensor, Tensor]:
        """A tile as the model gets it, uint8 3 x H x W, and its descriptors, K x h x w."""

        def compute() -> tuple[Tensor, Tensor]:
            config = self.config
            images = fit_aerial(self.dataset.aerial([index]), config.aerial_size, config.polar, self.dataset.aerial_is_polar)
            with torch.inference_mode():
                given = normalise(to_unit_range(images), config.normalisation).to(config.device)
                found = self.model.describe_aerial(given).descriptors[0]
            return images[0], found.float().cpu()

        return _remember(self._aerial, index, compute)

    def unroll(self, tile: Tensor) -> Tensor:
        """A square tile, uint8 3 x S x S, in the panorama's shape, 3 x H x W."""
        return polar_transform(tile[None], self.config.ground_size)[0]

    def look(self, picture: Tensor, pose: Pose | None = None, positive: int | None = None, k: int = 5) -> Look:
        """What the model makes of a picture.

        Args:
            picture: uint8 3 x h x w, a whole panorama with north in the middle.
            pose: how it is shown; by default as it is.
            positive: index of the true tile, where it is known.
            k: nearest tiles to give.
        """
        pose = pose or Pose()
        inputs, shown = self._inputs(picture, torch.tensor([pose.heading]), torch.tensor([pose.mirrored]), pose.fov)
        with torch.inference_mode():
            view = self.model.describe_ground(inputs.to(self.config.device))
        distance = (2 - 2 * (self._exact_reference @ view.embedding[0].double().cpu())).clamp(0, 4)  # M
        nearest = distance.topk(min(k, len(distance)), largest=False).indices
        rank, to_positive = 0, float("nan")
        if positive is not None:
            to_positive = float(distance[positive])
            rank = int((distance <= distance[positive] + 1e-9).sum())
        return Look(
            shown=shown[0], descriptors=view.descriptors[0].float().cpu(), index=nearest.numpy(), distance=distance[nearest].numpy(),
            metres=self._metres(nearest.numpy(), positive), positive=positive, rank=rank, to_positive=to_positive,
        )  # fmt: skip

    def curve(self, picture: Tensor, fov: float = 360.0, positive: int | None = None, step: float = STEP) -> Curve:
        """How the match breaks when the picture is turned, as it is and mirrored: one batch of ``2 * 360 / step`` pictures.

        Args:
            picture: uint8 3 x h x w, a whole panorama with north in the middle.
            fov: degrees that are seen.
            positive: index of the tile to compare with; None = the nearest tile at each angle.
            step: degrees.
        """
        key = (picture.numpy().tobytes(), fov, positive, step)
        return _remember(self._curves, key, lambda: self.curves(picture[None], fov, None if positive is None else [positive], step)[0])

    def curves(self, pictures: Tensor, fov: float = 360.0, positive: list[int] | None = None, step: float = STEP) -> list[Curve]:
        """:meth:`curve` of B pictures, uint8 B x 3 x h x w."""
        angle = np.arange(-180, 180, step)
        both = torch.tensor([False, True]).repeat_interleave(len(angle))  # 2A
        turns = torch.from_numpy(np.tile(angle, 2))
        found = []
        for number, picture in enumerate(pictures):
            inputs, _ = self._inputs(picture, turns, both, fov)
            with torch.inference_mode():
                query = self.model.encode_ground(inputs.to(self.config.device)).float().cpu()
            tiles = self.reference if positive is None else self.reference[positive[number]][None]
            distance = (2 - 2 * (query @ tiles.T)).clamp(0, 4).amin(1)  # 2A
            found.append(Curve(angle, distance.reshape(2, -1).numpy()))
        return found

    def _inputs(self, picture: Tensor, heading: Tensor, mirrored: Tensor, fov: float) -> tuple[Tensor, Tensor]:
        """A picture in B poses: normalised as the model takes it, and as uint8, B x 3 x H x W each, the unseen at the mean colour."""
        config = self.config
        fov = min(fov, self.trained.config.fov)
        one = fit_ground(picture[None], config.ground_size)
        posed = layout_ground(one.expand(len(heading), -1, -1, -1), mirrored, 0)
        width = self.model.ground_size[1]
        inputs = prepare_ground(posed, config.ground_size, config.normalisation, fov, heading)
        shown = crop_field_of_view(posed[:1], fov, heading[:1])
        unseen = width - inputs.shape[-1]
        pad = (unseen // 2, unseen - unseen // 2)
        grey = torch.from_numpy(mean_colour(config.normalisation)).view(1, 3, 1, 1).expand(1, 3, shown.shape[-2], 1)
        canvas = torch.cat([grey.expand(-1, -1, -1, pad[0]), shown, grey.expand(-1, -1, -1, pad[1])], dim=-1)
        return F.pad(inputs, pad).contiguous(memory_format=torch.channels_last), canvas

    def _metres(self, index: np.ndarray, positive: int | None) -> np.ndarray:
        positions = self.dataset.reference_position
        if positive is None or positions is None:
            return np.full(len(index), np.nan)
        return np.asarray(np.linalg.norm(positions[index] - positions[positive], axis=1))


def _remember(store: OrderedDict[Any, Any], key: Any, compute: Callable[[], Value]) -> Value:
    """What was computed for a key, the oldest forgotten."""
    if key in store:
        store.move_to_end(key)
    else:
        store[key] = compute()
        while len(store) > _REMEMBERED:
            store.popitem(last=False)
    found: Value = store[key]
    return found
