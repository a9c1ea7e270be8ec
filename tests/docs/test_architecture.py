"""The architecture page matches the code."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
LINK = re.compile(r"\[`([\w.]+)`\]\(\.\./(harness/[\w/]+\.py)\)")
PACKAGE = ROOT / "harness" / "attnbench"


def defined(path):
    """Return the names of a module's functions, classes and methods, as `name` or `Class.name`."""
    names = {path.name}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


def section(title):
    """Return the text of a section of the architecture page."""
    return PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_each_linked_function_is_defined_where_its_link_leads():
    """Every function and class in the step-by-step list is defined in the module that its link points to."""
    links = LINK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(links) > 15
    missing = [(name, path) for name, path in links if name not in defined(ROOT / path)]
    assert not missing


def test_the_pipeline_names_every_folder_and_module():
    """The pipeline table lists every folder of the package and every top-level module except seven small ones."""
    table = section("The pipeline")
    folders = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    modules = {path.name for path in PACKAGE.glob("*.py")}
    named = set(re.findall(r"`([\w]+(?:/|\.py))`", table))
    assert folders <= named
    assert modules - named == {
        "__init__.py",
        "__main__.py",
        "atomic_write.py",
        "errors.py",
        "interrupts.py",
        "untrusted.py",
        "user_cache.py",
    }


def test_each_folder_says_on_which_side_it_runs():
    """Each package's docstring states the same side (supervisor, worker, both or other) as the pipeline table."""
    sides = {
        "supervisor": "in the supervisor",
        "worker": "in workers",
        "both": "on both sides",
        "other": "in a separate",
    }
    table = section("The pipeline")
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    stated = {folder: side.split()[0] for names, side in rows for folder in re.findall(r"`(\w+)/`", names)}
    assert stated
    for path in PACKAGE.rglob("__init__.py"):
        folder = path.relative_to(PACKAGE).parts[0]
        if folder in stated:
            first = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]
            assert sides[stated[folder]] in first, path


def test_the_glossary_is_short():
    """The glossary defines at most 12 words."""
    assert 0 < len(re.findall(r"^: ", section("Glossary"), re.MULTILINE)) <= 12


def test_each_part_of_the_package_may_import_torch_or_is_forbidden_to():
    """The import contract that forbids torch covers every folder and module except those on the worker side."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (wall,) = (contract for contract in contracts if "torch" in contract.get("forbidden_modules", ()))
    covered = {name.removeprefix("attnbench.") for name in wall["source_modules"]}
    parts = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {path.stem for path in PACKAGE.glob("*.py")}
    worker_side = {"benchmarks", "conformance", "dispatch", "measure", "reference", "tensors", "worker"}
    assert parts - covered == {"__init__", "__main__", *worker_side}
