"""Values of a configuration as they are typed in a command: ``name=value``."""

from __future__ import annotations

import argparse

import yaml


def setting(text: str) -> tuple[str, object]:
    """Name and value, read as YAML: the ``type`` of an argument.

    Raises:
        ArgumentTypeError: something else.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"{text!r}: the value is no YAML; put it in quotes") from None
