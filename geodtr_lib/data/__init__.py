"""Data sets by name: ``city`` and ``osm`` (embedded, rendered), ``cvusa``, ``cvact``, ``vigor`` (in their owners' layouts)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodtr_lib.config import RunConfig
from geodtr_lib.data.base import ArrayDataset, Indices, PairDataset, VerifyError, VerifyReport
from geodtr_lib.errors import ConfigError, DatasetError
from geodtr_lib.lookup import town_maps

__all__ = [
    "NAMES", "ArrayDataset", "JoinedDataset", "PairDataset", "VerifyError", "VerifyReport", "areas", "open_dataset", "open_for", "verify",
]  # fmt: skip

NAMES = ("city", "osm", "cvusa", "cvact", "vigor")
_EMBEDDED = ("city", "osm")


def areas(name: str, root: str = "") -> tuple[str, ...]:
    """Areas of a data set that a run evaluates on when none is named.

    Args:
        name: city, osm, cvusa, cvact or vigor.
        root: osm only: a map of one's own, or a folder of them; empty = the towns that ship with the library.

    Raises:
        ConfigError: unknown name.
        DatasetError: no map at ``root``.
    """
    if name == "city":
        from geodtr_lib.data.city import STYLES

        return tuple(STYLES)
    if name == "osm":
        from geodtr_lib.data.osm_world import EMBEDDED

        return tuple(town_maps(root) if root else EMBEDDED)
    if name in ("cvusa", "cvact"):
        return (name,)
    if name == "vigor":
        return ("same",)
    raise _unknown(name)


def regions(name: str, area: str, split: str) -> frozenset[str]:
    """The places that an area's split lies in. A model has seen an area if it was trained in any of its regions.

    Raises:
        ConfigError: unknown area of VIGOR.
    """
    if name == "vigor":
        from geodtr_lib.data.vigor import cities_of

        return frozenset(cities_of(area, split)[0])
    # The 92,802 test pairs of CVACT are of the city that its training pairs are of.
    return frozenset({"cvact"} if name == "cvact" else area.split("+"))


def open_dataset(name: str, root: str | Path | None = None, area: str | None = None, split: str = "train", **options: Any) -> PairDataset:
    """Open a data set.

    Args:
        name: city, osm, cvusa, cvact or vigor.
        root: the owner's folder (cvusa, cvact, vigor); a map or a folder of maps (osm); nothing for city.
        area: area of it; None = its first. Several embedded areas are joined by '+'.
        split: 'train' or 'test'.
        options: the data set's own: ``n``, ``seed``, ``ground_size``, ``tile_size``, ``environment``, ``aerial_environment`` (embedded);
            ``ground_size``, ``aerial_size``, ``polar``, ``skip_missing``, ``workers`` and more (the others).

    Raises:
        ConfigError: unknown name or option.
        DatasetError: unknown area, missing or damaged data.
    """
    if name not in NAMES:
        raise _unknown(name)
    root = str(root or "")
    area = area or next(iter(areas(name, root)), "")
    opener = _opener(name)
    if name not in _EMBEDDED and not root:
        raise DatasetError(
            f"{name} is given out by its owners: pass data_root, the folder that holds it (the README says where to ask for it)"
        )
    allowed = set(inspect.signature(opener).parameters) - {"root", "area", "split"}
    if unknown := sorted(set(options) - allowed):
        raise ConfigError(f"options: {name} does not know {unknown[0]!r}; allowed: {', '.join(sorted(allowed))}")
    return opener(root=root, area=area, split=split, **options)


def _opener(name: str) -> Callable[..., PairDataset]:
    if name == "cvusa":
        from geodtr_lib.data.cvusa import open_cvusa

        return open_cvusa
    if name == "cvact":
        from geodtr_lib.data.cvact import open_cvact

        return open_cvact
    if name == "vigor":
        from geodtr_lib.data.vigor import open_vigor

        return open_vigor
    return partial(_open_areas, name)


def osm_root(area: str, root: str) -> str:
    """The folder or file to read an ``osm`` area from: ``root``, or empty for a town that only the library has, beside one's own.

    Raises:
        DatasetError: no map at ``root``.
    """
    return "" if area in areas("osm") and area not in areas("osm", root) else root


def open_for(config: RunConfig, area: str, split: str) -> PairDataset:
    """The data set of a configuration. ``area`` may name another data set as 'dataset:area' (cross-data-set evaluation)."""
    name, _, inner = area.rpartition(":")
    name = name or config.dataset
    root = config.data_root if name == config.dataset else config.test_roots.get(name, "")
    if name == "osm":
        root = osm_root(inner, root)
    if name != config.dataset and name in NAMES and name not in _EMBEDDED and not root:
        raise DatasetError(f"test_roots: no folder for {name}, which the test area {area!r} needs; give it as {{{name!r}: folder}}")
    # The owners' data sets have options of their own; and this one is for the batches that training makes.
    shared = name == config.dataset or {name, config.dataset} <= set(_EMBEDDED)
    own_options = {key: value for key, value in config.options.items() if shared and key != "overlapping_negatives"}
    if name in _EMBEDDED:
        return open_dataset(
            name, root, inner, split, n=config.n_train if split == "train" else config.n_test, seed=config.data_seed,
            ground_size=config.ground_size, tile_size=config.tile_size or config.aerial_size[0], environment=config.environment,
            **own_options,
        )  # fmt: skip
    options: dict[str, Any] = dict(
        ground_size=config.ground_size, aerial_size=config.aerial_size, tile_size=config.tile_size, polar=config.polar,
        skip_missing=config.skip_missing, workers=config.workers,
    )  # fmt: skip
    if name == "cvusa":
        options["keep_repeats"] = config.keep_repeats
    found = open_dataset(name, root, inner, split, **options, **own_options)
    if not config.packed:
        return found
    from geodtr_lib.data.packed import pack

    return pack(found, config.ground_size, config.aerial_size, config.polar)


def verify(name: str, root: str | Path, **options: Any) -> VerifyReport:
    """Check a data set's files before use. Lists that are not as long as the owners' are a warning: of such a part recalls mean less.

    Args:
        name: cvusa, cvact or vigor.
        root: the owner's folder.
        options: of :func:`geodtr_lib.data.verification.verify_cvusa` and its siblings: ``decode``, ``workers``, ``progress``; ``mat``
            (cvact), ``labels`` (vigor).

    Raises:
        ConfigError: another name.
        DatasetError: no data set there.
        VerifyError: problems were found; one line says which, and its ``report`` has all of it.
    """
    from geodtr_lib.data.verification import CHECKS, require

    if name in _EMBEDDED:
        raise ConfigError(f"{name} is rendered by the library and checked when opened; verify is for {', '.join(CHECKS)}")
    if name not in NAMES:
        raise _unknown(name)
    report = CHECKS[name](root, **options)
    require(report)
    if report.unexpected:
        warnings.warn(f"{name} at {root} is not the whole data set ({'; '.join(report.unexpected)})", stacklevel=2)
    return report


def _open_areas(
    name: str, *, root: str, area: str, split: str, n: int = 1000, seed: int = 0,
    ground_size: tuple[int, int] = (32, 128), tile_size: int = 64,
    environment: str = "clear", aerial_environment: str = "clear", resolution: float = 0.5, progress: bool = True,
) -> PairDataset:  # fmt: skip
    from geodtr_lib.data.embedded import open_embedded
    from geodtr_lib.data.site_views import Rendering

    rendering = Rendering(
        ground_size=(ground_size[0], ground_size[1]),
        tile_size=tile_size,
        ground_environment=environment,
        aerial_environment=aerial_environment,
        resolution=resolution,
    )
    names = area.split("+")
    shares = [n // len(names) + (i < n % len(names)) for i in range(len(names))]
    parts = [open_embedded(name, part, split, share, seed, root, rendering, progress) for part, share in zip(names, shares, strict=True)]
    return parts[0] if len(parts) == 1 else JoinedDataset(parts)


class JoinedDataset(PairDataset):
    """Several areas as one; each query keeps its own reference, the gallery is all of them."""

    def __init__(self, parts: Sequence[ArrayDataset]) -> None:
        from geodtr_lib.files import digest

        self.parts = list(parts)
        self.name, self.split, self.area = parts[0].name, parts[0].split, "+".join(part.area for part in parts)
        self.hash = digest([part.hash for part in parts])
        self.positive = np.arange(sum(len(part) for part in parts))
        self.query_ids = self.reference_ids = [item for part in parts for item in part.query_ids]
        if all(part.query_location is not None for part in parts):
            self.query_location = self.reference_location = np.concatenate([part.query_location for part in parts])
        self.truth = {key: _Rows([part.truth[key] for part in parts]) for key in parts[0].truth}
        self.class_names = parts[0].class_names
        self._ground, self._aerial = (_Rows([getattr(part, key) for part in parts]) for key in ("ground_array", "aerial_array"))

    def ground(self, indices: Indices) -> Tensor:
        return torch.from_numpy(self._ground[np.asarray(indices)])

    def aerial(self, indices: Indices) -> Tensor:
        return torch.from_numpy(self._aerial[np.asarray(indices)])


class _Rows:
    """Rows of several arrays under one numbering, read on demand (the arrays are memory-mapped)."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = list(arrays)
        self.start = np.cumsum([0, *(len(array) for array in arrays)])

    def __len__(self) -> int:
        return int(self.start[-1])

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.atleast_1d(np.arange(len(self))[index])
        part = np.searchsorted(self.start, rows, side="right") - 1
        out = np.empty((len(rows), *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        for number, array in enumerate(self.arrays):
            here = part == number
            out[here] = array[rows[here] - self.start[number]]
        return out if np.ndim(index) or isinstance(index, slice) else out[0]


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"dataset: {name!r} is not known; allowed: {', '.join(NAMES)}")
