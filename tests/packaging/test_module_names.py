"""All modules named in strings, configuration and prose exist, so that a rename can't silently break a reference."""

import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEARCHED = ("harness", "variants", "tests", "examples", "docs", "README.md", "CONTRIBUTING.md", "Makefile", ".ci")
DOTTED = re.compile(r"(?<![\w./-])attnbench(?:_variants)?(?:\.[A-Za-z_]\w*)+(?![\w*{])")
IMPORTED = re.compile(r"\bfrom (attnbench[\w.]*) import ([\w, ]+)")
DELIBERATE = {"attnbench.Workloads", "attnbench.report.wirte_report"}  # wrong on purpose, to test error messages
# A dotted name that ends with one of these, such as attnbench.toml, is the name of a file and not of a module.
EXTENSIONS = {"toml", "html", "json", "py", "md", "xml", "zip", "yml", "log"}


def tracked_files():
    """Return the project's text files that may name a module."""
    listed = subprocess.run(
        [shutil.which("git"), "ls-files", *SEARCHED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    paths = [ROOT / name for name in listed.splitlines()]
    binary = {".png", ".svg", ".gz", ".parquet"}
    return [path for path in paths if path.is_file() and path.suffix not in binary and path != Path(__file__)]


def module_file(name):
    """Return a module's file, or None if there is no such module."""
    folder = ROOT / ("variants" if name.startswith("attnbench_variants") else "harness")
    path = folder.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def exists(name):
    """Return whether a dotted name is a module or, like `attnbench.load`, a name that occurs in a module."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        file = module_file(".".join(parts[:count]))
        if file:
            rest = parts[count:]
            return (
                not rest
                or rest[0].startswith("__")
                or re.search(rf"\b{rest[0]}\b", file.read_text(encoding="utf-8")) is not None
            )
    return False


def names_in(text):
    """Yield the dotted names in a text, including `module.name` for each name in `from module import name`."""
    yield from (name for name in DOTTED.findall(text) if name.rpartition(".")[2] not in EXTENSIONS)
    for module, names in IMPORTED.findall(text):
        yield from (f"{module}.{name.split()[0]}" for name in names.split(",") if name.strip())


def test_every_module_that_a_file_names_exists():
    """All modules named in `-m` arguments, scripts, monkeypatched names, links and prose exist."""
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in tracked_files()
        for name in names_in(path.read_text(encoding="utf-8", errors="replace"))
        if name not in DELIBERATE and not exists(name)
    }
    assert not missing, "\n".join(sorted(missing))


def test_the_search_finds_a_wrong_name():
    """The search finds a module that does not exist and a name that a module does not contain."""
    text = '"-m", "attnbench.worker.nowhere"\nfrom attnbench.errors import UsageError, NoSuchError\nattnbench.store'
    assert [name for name in names_in(text) if not exists(name)] == [
        "attnbench.worker.nowhere",
        "attnbench.errors.NoSuchError",
    ]


def entry_points():
    """Return the targets of the entry points in pyproject.toml: commands, pytest plugins and the built-in variants."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["scripts"], *project["entry-points"].values()]
    return [target for group in groups for target in group.values()]


@pytest.mark.parametrize("target", entry_points())
def test_entry_points_name_modules_that_exist(target):
    """Each entry point's module can be found, and contains the attribute named after the colon."""
    module, _, attribute = target.partition(":")
    assert importlib.util.find_spec(module)
    assert exists(f"{module}.{attribute}" if attribute else module)


def test_import_contracts_name_modules_that_exist():
    """The import contracts name no misspelt modules, which import-linter would ignore."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    named = [
        name
        for contract in settings["contracts"]
        for key in ("source_modules", "forbidden_modules")
        for name in contract.get(key, [])
        if name.startswith("attnbench")
    ]
    assert named
    assert [name for name in named if not exists(name)] == []
