"""Errors that a user can act on. Each is one line that names the file, value or key and says what is allowed or what to do."""

from __future__ import annotations


class GeoDTRError(Exception):
    """Base of all errors raised on purpose by this library."""

    def __str__(self) -> str:
        # One line: the message is read at the end of a long notebook log.
        return " ".join(super().__str__().split())

    def _render_traceback_(self) -> list[str]:
        """Show the one line instead of a traceback in IPython and in papermill's log (IPython's own hook)."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(GeoDTRError, ValueError):
    """An unknown parameter, or an impossible value."""


class DatasetError(GeoDTRError):
    """Data that is missing, unreadable or not what it should be."""


class CheckpointError(GeoDTRError):
    """A checkpoint that does not fit the model, or is not one."""


class RunError(GeoDTRError):
    """A run folder that cannot be written, or holds another run."""


def first_line(error: Exception) -> str:
    """The first line of what another library's error says, or its kind where it says nothing; at most 200 characters."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
