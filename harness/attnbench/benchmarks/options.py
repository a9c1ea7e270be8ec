"""Options of `pytest --pyargs attnbench.benchmarks`: a pytest plugin that does nothing in other sessions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.errors import AttnbenchError
from attnbench.workloads.workload import OPTIONS

if TYPE_CHECKING:
    from attnbench.benchmarks.selection import Cells
    from attnbench.workloads.axis import Axis

TARGET = "attnbench.benchmarks"
CELLS: pytest.StashKey[Cells] = pytest.StashKey()
LISTS: dict[str, tuple[Callable[[str], Any], str]] = {
    "suite": (str, "suites, by name or TOML file"),
    "variant": (str, "variants, by name or glob; default: all"),
    "device": (str, "devices, as attnbench list devices names them; default: the first GPU, or else the CPU"),
    "plugin": (str, "further plugins: FILE.py or package.module"),
}
AXES = [axis for axis in OPTIONS if not axis.surrounds]  # one process times attention only, on one device


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Add the options if the benchmarks are to run, and only then: other test suites may have a `--seq`, too."""
    if not any(TARGET in argument for argument in args):
        return
    group = parser.getgroup("attnbench", "attnbench: the cells to time; values are comma-separated")
    axes = {axis.name.replace("_", "-"): (axis.read, _explanation(axis)) for axis in AXES}
    for name, (kind, explanation) in {**LISTS, **axes}.items():
        group.addoption(
            f"--{name}",
            dest=destination(name),
            metavar="LIST",
            action="extend",
            default=[],
            type=_reader(kind),
            help=explanation,
        )


def pytest_collection(session: pytest.Session) -> None:
    """Choose the cells before the collection, so that a wrong option ends the session with one line."""
    if not hasattr(session.config.option, destination("variant")):
        return
    from attnbench.benchmarks.selection import choose_cells

    try:
        session.config.stash[CELLS] = choose_cells(session.config)
    except AttnbenchError as error:
        raise pytest.UsageError(str(error)) from error


def destination(name: str) -> str:
    """Return the attribute in which pytest stores the option `--name`."""
    return f"attnbench_{name.replace('-', '_')}"


def _explanation(axis: Axis) -> str:
    """Return the help text of an axis in pytest's style: no capital letter, no period."""
    text = axis.option.help if axis.option else ""
    return text[:1].lower() + (text[1:] if text.endswith("...") else text[1:].removesuffix("."))


def _reader(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def read(text: str) -> list[Any]:
        try:
            return [kind(part.strip()) for part in text.split(",") if part.strip()]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers, comma-separated") from None

    return read
