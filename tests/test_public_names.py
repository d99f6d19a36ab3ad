"""What ``import geodtr_lib`` offers."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import geodtr_lib


def test_every_public_name_is_there() -> None:
    listed = dir(geodtr_lib)
    assert set(geodtr_lib.__all__) <= set(listed)
    for name in (*geodtr_lib._HOME, *geodtr_lib._MODULES):
        assert name in listed
        assert getattr(geodtr_lib, name) is not None
    with pytest.raises(AttributeError, match="module 'geodtr_lib' has no attribute 'nothing'"):
        _ = geodtr_lib.nothing


def test_the_modules_that_the_readme_names_are_public(repository: Path) -> None:
    rows = re.findall(r"^\| (`.+?) \|", (repository / "README.md").read_text().partition("## The library")[2], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - set(geodtr_lib.data.NAMES)
    assert {"evaluation", "gallery", "explore", "widgets", "hard_batches"} <= named
    for name in named & {path.stem for path in Path(geodtr_lib.__file__).parent.iterdir()}:
        assert getattr(geodtr_lib, name) is import_module(f"geodtr_lib.{name}")
        assert name in geodtr_lib._MODULES
