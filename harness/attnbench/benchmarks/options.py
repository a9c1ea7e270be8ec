"""A pytest plugin that adds options to `pytest --pyargs attnbench.benchmarks` and does nothing in other sessions."""

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
    "suite": (str, "suites: names or TOML files"),
    "variant": (str, "variants: names or glob patterns; default: all"),
    "device": (
        str,
        "devices, as shown by `attnbench list devices`; default: the first GPU, or the CPU if there is none",
    ),
    "plugin": (str, "plugins to load: FILE.py or package.module"),
}
# Axes that describe layers or several devices are left out, because the tests time attention alone, on one device.
AXES = [axis for axis in OPTIONS if not axis.surrounds]


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Add the options only if the benchmarks will run, because other test suites may use the same option names."""
    if not any(TARGET in argument for argument in args):
        return
    group = parser.getgroup("attnbench", "attnbench: the cells to time; separate values by commas")
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
    """Choose the cells before tests are collected, so that an invalid option ends the session with a short message."""
    if not hasattr(session.config.option, destination("variant")):
        return
    from attnbench.benchmarks.selection import choose_cells

    try:
        session.config.stash[CELLS] = choose_cells(session.config)
    except AttnbenchError as error:
        raise pytest.UsageError(str(error)) from error


def destination(name: str) -> str:
    """Return the name of the attribute in which pytest stores the value of the `--name` option."""
    return f"attnbench_{name.replace('-', '_')}"


def _explanation(axis: Axis) -> str:
    """Return the help text of an axis in pytest's style: without an initial capital letter or a final period."""
    text = axis.option.help if axis.option else ""
    return text[:1].lower() + (text[1:] if text.endswith("...") else text[1:].removesuffix("."))


def _reader(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def read(text: str) -> list[Any]:
        try:
            return [kind(part.strip()) for part in text.split(",") if part.strip()]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers, comma-separated") from None

    return read
