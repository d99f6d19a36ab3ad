"""The project's own files agree with each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, object]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


def make(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(["make", "-C", str(repository), *arguments], capture_output=True, text=True, env=environment, timeout=60)


def test_environment_yml_is_a_door_to_pyproject_and_no_second_list(repository: Path, project: dict[str, object]) -> None:
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-e .[dev]"]
    assert {re.split("[=<>]", name)[0] for name in conda} == {"python", "pip"}
    python = next(name for name in conda if name.startswith("python")).split("=")[1]
    assert tuple(map(int, python.split("."))) >= (3, 11)
    assert project["project"]["requires-python"] == ">=3.11"  # type: ignore[index]


def test_every_package_that_the_library_imports_is_declared(repository: Path, project: dict[str, object]) -> None:
    declared = {re.split("[<>=\\[ ]", line)[0].lower().replace("-", "_") for line in project["project"]["dependencies"]}  # type: ignore[index]
    modules = {"pillow": "PIL", "pyyaml": "yaml"}
    known = {modules.get(name, name) for name in declared} | {"geodtr_lib"} | set(sys.stdlib_module_names)
    imported = set()
    for path in (repository / "geodtr_lib").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), flags=re.MULTILINE))
    optional = {"h5py", "accelerate", "distributed"}  # CVACT's table in MATLAB's newer format; the extras `gpus` and `cluster`
    assert imported - known - optional == set()


def test_every_dependency_has_a_floor(project: dict[str, object]) -> None:
    extras = project["project"]["optional-dependencies"]  # type: ignore[index]
    lines = [*project["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]  # type: ignore[index]
    assert [line for line in lines if ">=" not in line and not line.startswith("geodtr-lib[")] == []


def test_data_files_of_the_package_are_shipped(repository: Path, project: dict[str, object]) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]["geodtr_lib"]  # type: ignore[index]
    package = repository / "geodtr_lib"
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files - shipped == set()
    assert package / "published" / "table5_descriptor_count.csv" in shipped


def test_importing_the_library_reads_no_table() -> None:
    code = """
import importlib, pkgutil
import pandas
import geodtr_lib

def refuse(*arguments, **options):
    raise AssertionError(f"read at import: {arguments[0]}")

pandas.read_csv = pandas.read_parquet = refuse
for module in pkgutil.walk_packages(geodtr_lib.__path__, "geodtr_lib."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_imports_go_one_way(repository: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=repository, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(repository)},
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 kept, 0 broken" in found.stdout


@pytest.mark.parametrize("target", ["ablation", "explore", "test", "notebooks", "figures", "lint", "format", "strip"])
def test_every_target_sets_up_a_fresh_clone_first(repository: Path, target: str, tmp_path: Path) -> None:
    planned = make(repository, "--dry-run", target, f"VENV={tmp_path / 'venv'}", f"PYTHON={sys.executable}")
    assert planned.returncode == 0, planned.stderr
    steps = planned.stdout
    assert steps.index("-m venv") < steps.index("pip install --quiet --editable")
    assert steps.index("pip install --quiet --editable") < steps.rindex(str(tmp_path / "venv" / "bin"))


def test_make_ablation_is_the_documented_command(repository: Path, tmp_path: Path) -> None:
    steps = make(repository, "--dry-run", "ablation", f"VENV={tmp_path}").stdout
    assert re.search(r"papermill notebooks/ablation\.ipynb runs/ablation\.ipynb .*-p n_desc 4\n", steps)
    assert "geodtr_lib.study show runs/ablation.ipynb" in steps


def test_a_small_torch_is_installed_where_it_is_asked_for(repository: Path, tmp_path: Path) -> None:
    index = "https://download.pytorch.org/whl/cpu"
    plain = make(repository, "--dry-run", "install", f"VENV={tmp_path / 'v'}").stdout
    small = make(repository, "--dry-run", "install", f"VENV={tmp_path / 'v'}", f"TORCH_INDEX={index}").stdout
    assert index not in plain
    assert small.index(index) < small.index("--editable")


@pytest.mark.parametrize("python", ["no-such-python", "/bin/false"])
def test_a_python_that_will_not_do_is_named_in_one_line(repository: Path, python: str, tmp_path: Path) -> None:
    found = make(repository, "install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert found.returncode != 0
    first, *rest = found.stderr.strip().splitlines()
    assert first == f"PYTHON={python} is not Python 3.11 or newer; say which: make PYTHON=python3.12"
    assert all(line.startswith("make") for line in rest)
    assert not (tmp_path / "venv").exists()


def test_continuous_integration_runs_what_make_runs(repository: Path) -> None:
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert re.search(r"^set -euo pipefail$.*^make test$", script.read_text(), flags=re.MULTILINE | re.DOTALL)
    workflow = yaml.safe_load((repository / ".github" / "workflows" / "test.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run", "make lint"]


def test_citation_and_package_have_the_same_version_and_licence(repository: Path) -> None:
    from geodtr_lib import __version__

    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == "MIT"
    assert (repository / "LICENSE").read_text().startswith("MIT License")


def test_files_and_commands_that_the_readmes_name_exist(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(), flags=re.MULTILINE))
    folders = ("", "notebooks", "benchmarks", "results", "docs", "tests/reference")
    documents = [readme for folder in folders for readme in sorted((repository / folder).glob("*.md"))]
    assert len(documents) >= 9
    for readme in documents:
        text = readme.read_text(encoding="utf-8")
        # In code only: prose may make sense of the word.
        named = re.findall(r"(?:`|^    |^)make ([a-z]+)", text, flags=re.MULTILINE)
        assert [target for target in named if target not in targets] == [], readme
        links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
        paths = re.findall(r"(?<![\w/])((?:geodtr_lib|notebooks|tests|figures)/[\w/.-]+\.(?:py|ipynb|md|csv|png))", text)
        assert [link for link in links if not (readme.parent / link).exists()] == [], readme
        assert [path for path in paths if not (repository / path).exists()] == [], readme


def test_nothing_is_pinned_to_one_machine(repository: Path) -> None:
    tracked = subprocess.run(["git", "-C", str(repository), "ls-files"], capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    read = (".py", ".md", ".toml", ".yml", ".ipynb", ".cff")
    texts = [repository / name for name in tracked.stdout.splitlines() if Path(name).suffix in read]
    home = re.compile(r"(?<![\w.])/(?:home|root|Users|work|mnt)/\w+")
    assert {str(path): home.findall(path.read_text()) for path in texts if path.exists() and home.search(path.read_text())} == {}
