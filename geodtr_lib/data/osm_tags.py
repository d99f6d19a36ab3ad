"""Values of OpenStreetMap tags: lengths with their units, counts, colours. Whoever maps writes them by hand, so all may be nonsense."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from PIL import ImageColor

Value = TypeVar("Value")
RGB = tuple[int, int, int]

_NUMBER = r"([-+]?\d+(?:[.,]\d+)?|[-+]?[.,]\d+)"
_LENGTH = re.compile(rf"(?:~|≈|ca\.?|about)?\s*{_NUMBER}\s*([a-z]*)\.?")
_FEET = re.compile(rf"(?:~|≈)?\s*{_NUMBER}\s*'\s*(?:{_NUMBER}\s*(?:\"|''))?")
_UNITS = {"": 1.0, "km": 1000.0, "cm": 0.01, "in": 0.0254} | dict.fromkeys(("m", "meter", "meters", "metre", "metres", "mtr"), 1.0)
_UNITS |= dict.fromkeys(("ft", "foot", "feet"), 0.3048)
_PRIMES = str.maketrans({"\u2032": "'", "\u2019": "'", "\u2033": '"', "\u201d": '"'})


@dataclass
class Report:
    """What an extract holds and what of it could not be used.

    Attributes:
        counts: features by kind.
        skipped: features or values left out, by reason.
        examples: for each reason the first one, e.g. ``way/123 height='tall'``.
    """

    counts: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def skip(self, reason: str, what: str) -> None:
        """Count one thing that is left out."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, what)

    def value(self, tags: Mapping[str, str], key: str, parse: Callable[[str], Value], owner: str) -> Value | None:
        """The tag's value, or None when it is absent or nonsense; nonsense is counted."""
        text = tags.get(key)
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.skip(f"{key} {error}", f"{owner} {key}={text!r}")
            return None

    def __str__(self) -> str:
        lines = [f"{kind}: {count:,}" for kind, count in self.counts.items()]
        lines += [f"skipped, {reason}: {count:,}, first {self.examples[reason]}" for reason, count in self.skipped.most_common()]
        return "\n".join(lines)


def parse_length(text: str, low: float = 0.0, high: float = 600.0) -> float:
    """Metres of ``12``, ``12.5 m``, ``12,5``, ``~12``, ``40'``, ``40 ft``, ``5'6"``; OpenStreetMap's unit is the metre.

    Raises:
        ValueError: not a length, or outside ``low`` to ``high``.
    """
    text = text.strip().lower().translate(_PRIMES)
    if match := _FEET.fullmatch(text):
        metres = _float(match[1]) * 0.3048 + _float(match[2] or "0") * 0.0254
    elif (match := _LENGTH.fullmatch(text)) and match[2] in _UNITS:
        metres = _float(match[1]) * _UNITS[match[2]]
    else:
        raise ValueError("is not a length")
    return _within(metres, low, high, " m")


def parse_number(text: str, low: float = 0.0, high: float = 200.0) -> float:
    """A plain number such as a count of storeys; halves are allowed.

    Raises:
        ValueError: not a number, or outside ``low`` to ``high``.
    """
    match = _LENGTH.fullmatch(text.strip().lower())
    if match is None or match[2]:
        raise ValueError("is not a number")
    return _within(_float(match[1]), low, high, "")


def parse_colour(text: str) -> RGB:
    """Red, green, blue (0-255) of a CSS name (``grey``, ``light_grey``) or ``#rgb``, ``#rrggbb``.

    Raises:
        ValueError: not a colour.
    """
    try:
        red, green, blue = ImageColor.getrgb(re.sub(r"[\s_]", "", text.lower()))[:3]
    except ValueError:
        raise ValueError("is not a colour") from None
    return red, green, blue


def choice(*allowed: str) -> Callable[[str], str]:
    """A parser that takes only these words."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in allowed:
            raise ValueError("is not known")
        return word

    return parse


def _float(digits: str) -> float:
    return float(digits.replace(",", "."))


def _within(value: float, low: float, high: float, unit: str) -> float:
    if not low <= value <= high:
        raise ValueError(f"is outside {low:g}-{high:g}{unit}")
    return value
