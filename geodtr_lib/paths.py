"""Where things live: the packaged data, the cache of rendered data, the run folders. Nothing is created on import."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def repository() -> Path:
    """The checkout that holds this package, or the working folder when the package is installed elsewhere."""
    top = PACKAGE.parent
    return top if (top / "pyproject.toml").is_file() else Path.cwd()


def cache_folder() -> Path:
    """Rendered data: ``$GEODTR_CACHE``, else ``$XDG_CACHE_HOME/geodtr_lib``, else ``~/.cache/geodtr_lib``."""
    if value := os.environ.get("GEODTR_CACHE"):
        return Path(value).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geodtr_lib"


def runs_folder() -> Path:
    """Training runs: ``$GEODTR_RUNS``, else ``runs`` in the repository."""
    if value := os.environ.get("GEODTR_RUNS"):
        return Path(value).expanduser()
    return repository() / "runs"


def figures_folder() -> Path:
    """The committed figures."""
    return repository() / "figures"


def shown(path: str | Path) -> str:
    """A path as it is told to people: relative to the repository where it lies in it."""
    path = Path(path).resolve()
    top = repository().resolve()
    return str(path.relative_to(top) if path.is_relative_to(top) else path)


def published_table(name: str) -> Path:
    """CSV of one of the paper's tables, e.g. ``table4_gle_chsg_backbone``."""
    return PACKAGE / "published" / f"{name}.csv"
