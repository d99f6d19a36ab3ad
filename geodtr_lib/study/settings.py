"""Values as they are typed in a command; each function is the ``type`` of an argument."""

from __future__ import annotations

import argparse

import yaml


def words(text: str) -> list[str]:
    """Words joined by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(text: str) -> list[int]:
    """Whole numbers joined by commas.

    Raises:
        ArgumentTypeError: something else.
    """
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no whole numbers joined by commas, such as 0,2,3") from None


def setting(text: str) -> tuple[str, object]:
    """Name and value of ``name=value``, the value read as YAML.

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
