"""Files written whole or not at all, and content hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geodtr_lib.errors import GeoDTRError, RunError

_LOOKS = 5  # at a lock, before its holder counts as one who stays
_HELD = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)  # what flock says of a lock that another process holds
# What whole_file writes to, and the name that safetensors makes up beside it.
_LEFTOVER = re.compile(r"\..+\.(csv|ipynb|json|jpg|npy|npz|pdf|png|pt|safetensors)\.[a-z0-9_]+\.part|\.tmp[A-Za-z0-9]{6}")


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` when the block ends well, remove it otherwise.

    Raises:
        RunError: the folder cannot be written or the disk is full; the message names ``path``.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())  # the rename must not overtake the data
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except GeoDTRError:
        raise
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; free space or choose another folder") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all. NaN is refused: it is not JSON."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path} does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is not readable as JSON ({error}); remove it and run again") from error


def read_versioned(path: str | Path, newest: int) -> dict[str, Any]:
    """Read a JSON object that says its ``schema``; one without is of before there were any.

    Raises:
        RunError: as :func:`read_json`; or no object, or of a newer version.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise RunError(f"{path} must hold names and values, not {type(content).__name__}; remove it and run again")
    schema = content.get("schema", 0)
    if not isinstance(schema, int) or schema > newest:
        raise RunError(f"{path} is of a newer version (schema {schema}, this one reads up to {newest}); update geodtr-lib")
    return content


def remove_leftovers(folder: str | Path) -> None:
    """Remove what killed writers of :func:`whole_file` have left in a folder that nobody else writes to now: files of their names only."""
    for path in Path(folder).glob(".*"):
        if _LEFTOVER.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def digest(value: Any) -> str:
    """Stable hash (16 hex digits) of any JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_digest(path: str | Path) -> str:
    """Hash (16 hex digits) of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold ``path`` as a lock; a second process that asks for it is refused. The lock ends with the process, however it ends.

    Where the file system has no locks, as some of a network have none, that is a warning, and two runs are not kept apart.

    Raises:
        RunError: another process holds it, or the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "a")  # noqa: SIM115 (held open on purpose)
    except OSError as error:
        raise RunError(f"cannot write {path.parent}: {error.strerror or error}; choose another folder") from error
    try:
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks; runs go on unprotected
            yield
            return
        for attempt in range(_LOOKS):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in _HELD:
                    reason = error.strerror or str(error)
                    warnings.warn(f"{path.parent} has no file locks ({reason}); start one run at a time in it", stacklevel=3)
                    break
                if attempt + 1 == _LOOKS:
                    raise RunError(f"{path.parent} is in use by another process; wait for it or choose another run_dir") from None
                time.sleep(0.05)  # who only asks whether it is held (is_held) is gone by then
        yield
    finally:
        stream.close()


def is_held(path: str | Path) -> bool:
    """Whether some process holds the lock now (:func:`locked`); nobody is kept from it by the question."""
    try:
        import fcntl

        with open(path) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # no advisory locks, or no such file
        return False
    return False
