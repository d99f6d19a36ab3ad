"""Widgets of JupyterLab, thin over :mod:`geodtr_lib.explore`: they hold no more than which control changes which argument.

The one module that imports ipywidgets. Every callback runs without a browser: set a control's ``value`` and read what is shown.
"""

from __future__ import annotations

from geodtr_lib.widgets.exploring import Explorer
from geodtr_lib.widgets.locating import Locator

__all__ = ["Explorer", "Locator"]
