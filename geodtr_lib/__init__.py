"""GeoDTR+ and GeoDTR: generic cross-view geo-localization, as a study that runs anywhere.

The names below are the public ones; they are imported on first use, so that ``import geodtr_lib`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geodtr_lib.checkpoints import load_checkpoint, load_released_checkpoint, save_released_checkpoint
    from geodtr_lib.config import RunConfig, resolve_config
    from geodtr_lib.models.geodtr import GeoDTR
    from geodtr_lib.training import run

__version__ = "0.1.0"

_HOME = {
    "GeoDTR": "geodtr_lib.models.geodtr",
    "RunConfig": "geodtr_lib.config",
    "resolve_config": "geodtr_lib.config",
    "run": "geodtr_lib.training",
    "load_checkpoint": "geodtr_lib.checkpoints",
    "load_released_checkpoint": "geodtr_lib.checkpoints",
    "save_released_checkpoint": "geodtr_lib.checkpoints",
}
_MODULES = (
    "checkpoints",
    "config",
    "data",
    "errors",
    "evaluation",
    "explore",
    "gallery",
    "geometry",
    "hard_batches",
    "losses",
    "models",
    "plots",
    "sampling",
    "study",
    "trainer",
    "training",
    "widgets",
)

__all__ = [
    "GeoDTR",
    "RunConfig",
    "load_checkpoint",
    "load_released_checkpoint",
    "resolve_config",
    "run",
    "save_released_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(f"geodtr_lib.{name}")
    raise AttributeError(f"module 'geodtr_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
