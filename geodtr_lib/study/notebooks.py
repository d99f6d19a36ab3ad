"""Notebooks with checked parameters: inside, what was passed becomes a configuration; outside, papermill made strict."""

from __future__ import annotations

import base64
import contextlib
import io
import os
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from PIL import Image

from geodtr_lib.config import RunConfig, listed, parameter_names, resolve_config, unknown_parameter
from geodtr_lib.errors import ConfigError, RunError
from geodtr_lib.files import whole_file, write_bytes
from geodtr_lib.paths import repository

_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))
# Plain values that IPython, and papermill's --inject-paths, put into a notebook's namespace.
_NOT_PARAMETERS = {"In", "Out", "PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}
_REMEMBERED = "_parameter_names"
_LARGEST = 900_000  # bytes of a notebook above which its pictures are rounded; a tenth below what the repository takes
_ROUNDED_BITS = 3
_WIDGET = "application/vnd.jupyter.widget-view+json"


def notebook_parameters(namespace: MutableMapping[str, Any], extra: Iterable[str] = (), lists: Iterable[str] = ()) -> RunConfig:
    """The configuration that a notebook's parameters ask for; call it first, as ``notebook_parameters(globals())``.

    Args:
        namespace: the notebook's ``globals()``. None and "" stand for the preset's value.
        extra, lists: names of parameters that are the notebook's own and not part of a configuration; see :func:`given_parameters`.

    Raises:
        ConfigError: an unknown name (the nearest known one is named) or an impossible value.
    """
    return resolve_config(**given_parameters(namespace, extra, lists))


def given_parameters(
    namespace: MutableMapping[str, Any], extra: Iterable[str] = (), lists: Iterable[str] = (), of_config: Iterable[str] | None = None
) -> dict[str, Any]:
    """The configuration's values that a notebook was given, for notebooks that do not start from a preset.

    Papermill only warns of a parameter that the notebook does not have, and the run goes on without it. Here every variable
    that holds a plain value counts as a parameter, so that a misspelt one is an error.

    Args:
        namespace: the notebook's ``globals()``.
        extra: names of parameters that are the notebook's own and not part of a configuration.
        lists: more of them, which are lists: ``a,b``, ``'["a", "b"]'`` and a single value are made one, in ``namespace`` too.
        of_config: the values of a configuration that the notebook uses; None = all. Others would be taken and change nothing.

    Returns:
        What is neither None nor "", without the notebook's own.

    Raises:
        ConfigError: an unknown name, or text that is no list.
    """
    lists = list(lists)
    extra = [*extra, *lists]
    for name in lists:
        namespace[name] = _as_list(name, namespace[name])
    found = {name for name, value in namespace.items() if isinstance(value, _PLAIN) and not name.startswith("_")} - _NOT_PARAMETERS
    taken = parameter_names() if of_config is None else tuple(of_config)
    known = {*taken, *extra}
    # Run again by hand, this cell also sees the variables of the cells below; those are not parameters.
    first = namespace.setdefault(_REMEMBERED, frozenset(found))
    for name in sorted(found & (first | known)):
        if name not in known:
            raise unknown_parameter(name, sorted(known))
    values = {name: namespace[name] for name in found & set(taken) - set(extra)}
    return {name: value for name, value in values.items() if value is not None and value != ""}


def other_area(area: str) -> str:
    """The first area of a data set beside the one that is trained on.

    Args:
        area: ``dataset:area``.

    Raises:
        ConfigError: an unknown data set, or one without another area.
    """
    from geodtr_lib.data import areas  # late: it needs torch

    dataset, _, own = area.partition(":")
    others = [name for name in areas(dataset) if name not in own.split("+")]
    if not others:
        raise ConfigError(f"area: {dataset} has no other area than {own!r}; name one to test in")
    return others[0]


def _as_list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, str):
        return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
    try:
        return [_number(part) for part in listed(value)]
    except ValueError as error:
        raise ConfigError(f"{name}: {value!r} is {error}") from None


def _number(value: Any) -> Any:
    """Text that is a number as one."""
    for kind in (int, float) if isinstance(value, str) else ():
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


def execute(
    notebook: str | Path, output: str | Path, *, execution_timeout: int | None = None, progress_bar: bool = False, **parameters: Any
) -> Path:
    """Run a notebook with papermill; a parameter that its parameters cell does not have is an error before anything runs.

    While it runs the notebook grows in ``.<name>.part.ipynb`` beside ``output``, which is replaced only by a whole run.
    What a failed run left, with the error in its place, is ``<name>.failed.ipynb``.

    Args:
        notebook: the notebook to run. Its kernel is ``python3``, this environment's own.
        output: the executed notebook.
        execution_timeout: longest time for one cell, in seconds; None = no limit.
        progress_bar: show papermill's count of cells.
        parameters: plain values (int, float, str, bool, None, lists and dictionaries of them); a Path goes as text.

    Returns:
        ``output``.

    Raises:
        ConfigError: an unknown parameter, or a value that cannot be written into a notebook.
        RunError: the notebook is missing, a cell failed or took too long, or ``output`` cannot be written.
    """
    import papermill  # late: notebooks import this module too, and have no need of it

    notebook, output = Path(notebook), Path(output)
    if not notebook.is_file():
        raise RunError(f"{notebook} does not exist")
    known = list(papermill.inspect_notebook(str(notebook)))
    for name in parameters:
        if name not in known:
            raise unknown_parameter(name, known)
    parameters = {name: _plain(name, value) for name, value in parameters.items()}

    part, failed = output.with_name(f".{output.stem}.part.ipynb"), output.with_name(f"{output.stem}.failed.ipynb")
    with whole_file(part):  # a folder that cannot be written is found before the run, not after it
        pass
    try:
        executed = papermill.execute_notebook(
            str(notebook), str(part), parameters, kernel_name="python3", progress_bar=progress_bar, execution_timeout=execution_timeout
        )
    except Exception as error:  # a cell's, the kernel's and the client's errors share no base class
        os.replace(part, failed)
        where = f" in cell [{error.exec_count}]" if hasattr(error, "exec_count") else ""
        what = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
        raise RunError(f"{notebook} failed{where}: {what} (see {failed})") from None
    executed.metadata.papermill["output_path"] = str(output)
    write_bytes(output, nbformat.writes(executed).encode())
    part.unlink()
    failed.unlink(missing_ok=True)
    return output


def strip(notebook: str | Path) -> bool:
    """Take out of a notebook what tools leave in it; outputs and counts stay, because a study is read before it is run.

    Progress bars go: as text they are long, as widgets they show nothing without the kernel that made them; of a
    widget that brings a picture for that case the picture stays. Only of a notebook of more than 900 kB the pictures are made smaller:
    their colours are rounded, as coarsely as it takes and by no more than 4 of 255 levels, so that a scale keeps its hues. Cell names
    become numbers, so that running a notebook again changes no more than its outputs. What is said of files below the repository is
    said from there, so that nobody's folders are in it.

    Returns:
        Whether the file changed.

    Raises:
        RunError: the notebook cannot be read or written.
    """
    notebook = Path(notebook)
    try:
        content = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise RunError(f"{notebook} is not readable as a notebook ({error})") from error
    for key in ("papermill", "widgets"):
        content.metadata.pop(key, None)
    for number, cell in enumerate(content.cells):
        cell.id = str(number)
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            for output in cell.outputs:  # a widget that brings a picture for viewers without widgets leaves it
                if "image/png" in output.get("data", {}):
                    output["data"].pop(_WIDGET, None)
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
            for output in cell.outputs:
                _say_from_the_repository(output)
    text = _small_enough(content)
    if text == notebook.read_text(encoding="utf-8"):
        return False
    write_bytes(notebook, text.encode())
    return True


def _say_from_the_repository(output: MutableMapping[str, Any]) -> None:
    below = f"{repository()}{os.sep}"
    for holder, key in ((output, "text"), *((output.get("data", {}), kind) for kind in ("text/plain", "text/markdown", "text/html"))):
        if isinstance(holder.get(key), str):
            holder[key] = holder[key].replace(below, "")


def _is_progress(output: Mapping[str, Any]) -> bool:
    if output["output_type"] == "stream":
        return bool(output["name"] == "stderr")
    return _WIDGET in output.get("data", {})


def _small_enough(content: nbformat.NotebookNode) -> str:
    """The notebook's text, its pictures rounded where it would be larger than ``_LARGEST``, and as little as that takes."""
    shown = [output["data"] for cell in content.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    pictures = [data["image/png"] for data in shown]
    text = str(nbformat.writes(content)) + "\n"
    for bits in range(_ROUNDED_BITS + 1):
        if len(text.encode()) <= _LARGEST:
            break
        for data, picture in zip(shown, pictures, strict=True):
            data["image/png"] = _rounded(picture, bits)
        text = str(nbformat.writes(content)) + "\n"
    return text


def _rounded(encoded: str, bits: int) -> str:
    """A base64 PNG without the lowest bits of its colours, and without an alpha channel that says nothing; or itself if that is smaller."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        if image.mode not in ("RGB", "RGBA"):
            return encoded
        pixels = np.asarray(image)  # H x W x 3 or 4
    if pixels.shape[2] == 4 and pixels[..., 3].min() == 255:
        pixels = pixels[..., :3]
    step = 2**bits
    smaller = io.BytesIO()
    # 255 stays as it is, so that white stays white.
    Image.fromarray(np.minimum(np.rint(pixels / step) * step, 255).astype(np.uint8)).save(smaller, "PNG", optimize=True)
    return min(base64.b64encode(smaller.getvalue()).decode(), encoded, key=len)


def _plain(name: str, value: Any) -> Any:
    """A value that papermill writes as itself; it would turn any other into text without a word."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if callable(getattr(value, "item", None)):  # NumPy and torch scalars
        return value.item()
    raise ConfigError(f"{name}: {value!r} cannot be passed to a notebook; allowed: numbers, text, True, False, None, lists, dictionaries")
