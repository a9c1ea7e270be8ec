"""Create new plugins from templates: a single file, or a package that can be installed and published."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from attnbench.errors import UsageError
from attnbench.plugins.variant import NAME_PATTERN

TEMPLATES = Path(__file__).parent / "templates"
BUILT_INS = Path("variants", "attnbench_variants")  # in a clone of attnbench, every file in this folder is a plugin
PACKAGE_FILES = {
    "package/pyproject.toml.txt": "pyproject.toml",
    "package/README.md.txt": "README.md",
    "package/test_conformance.py.txt": "tests/test_conformance.py",
    "package/ci.yml.txt": ".github/workflows/ci.yml",
    "variant.py.txt": "src/{module}/__init__.py",
}


def new_file(name: str, folder: Path) -> Path:
    """Write the file of a new variant and return its path.

    If `folder` is a clone of attnbench, the file is written to the folder of the built-in variants. Raises UsageError
    if the name is not valid as both a variant name and a module name, or if the file already exists or can't be
    written.
    """
    home = folder / BUILT_INS if (folder / BUILT_INS).is_dir() else folder
    module = module_name(name)
    path = home / f"{module}.py"
    _write(path, "variant.py.txt", name, module)
    return path


def new_package(name: str, folder: Path) -> list[Path]:
    """Write an installable plugin package with a new variant, and return the paths of its files.

    Raises UsageError if the name is not valid as both a variant name and a module name, or if the folder is not empty
    or can't be written.
    """
    module = module_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{str(folder)!r} is not empty: name a folder that does not exist yet")
    paths = []
    for template, target in PACKAGE_FILES.items():
        path = folder / target.format(module=module)
        _write(path, template, name, module)
        paths.append(path)
    return sorted(paths)


def module_name(name: str) -> str:
    """Return the module name that belongs to a variant name, such as `my_attn` for `my-attn`.

    Raises UsageError if the variant name or the module name is not valid, or if a module of that name is installed.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"name {name!r}: expected letters, digits, '.', '_', '+' or '-', starting with a letter or digit"
        )
    module = re.sub(r"\W", "_", name).lower()
    if not module.isidentifier() or keyword.iskeyword(module):
        raise UsageError(f"name {name!r}: {module!r} is not a valid name of a Python module: try my-{name}")
    if importlib.util.find_spec(module) is not None:
        raise UsageError(f"name {name!r}: a file {module}.py would hide the installed module {module!r}: try my-{name}")
    return module


def _write(path: Path, template: str, name: str, module: str) -> None:
    text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(
        name=name,
        module=module,
        project=f"attnbench-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}",
        class_name="".join(word.capitalize() for word in module.split("_")),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{str(path)!r} already exists: choose another name, or remove it first") from None
    except OSError as error:
        raise UsageError(f"{str(path)!r} can't be written: {error.strerror}") from None
