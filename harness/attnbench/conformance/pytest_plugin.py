"""The pytest plugin that adds the options of `pytest --pyargs attnbench.conformance --variant my-attn`.

The options are added only if the suite is named on the command line, so that they can't clash with other projects'
options.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.device_names import device_type
from attnbench.errors import AttnbenchError, PluginError, UsageError, unknown
from attnbench.plugins.loading import entry_point_sources, load_all, named_source

if TYPE_CHECKING:
    from attnbench.plugins.variant import Variant

PACKAGE = "attnbench.conformance"
VARIANTS = pytest.StashKey["list[Variant]"]()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Add the options if the conformance suite is named on the command line."""
    if not any(argument.partition("::")[0] == PACKAGE for argument in args):
        return
    group = parser.getgroup("attnbench", "attnbench's conformance suite")
    group.addoption("--variant", action="append", default=[], help="a variant to test; can be repeated")
    group.addoption(
        "--plugin", action="append", default=[], help="FILE.py or package.module with variants; can be repeated"
    )
    group.addoption("--device", default="cpu", help="device to test on: cpu, cuda or cuda:N (default: cpu)")
    group.addoption(
        "--level",
        default="full",
        choices=("quick", "full", "thorough"),
        help="how many workloads to test (default: full)",
    )
    group.addoption("--seed", type=int, default=0, help="seed of all random values (default: 0)")


def device_under_test(config: pytest.Config) -> str:
    """Return the device that `--device` names, and make it torch's current device if it is a GPU.

    GPUs are numbered in PCI bus order, as in `attnbench list devices`. Raises UsageError if torch finds no such device.
    """
    device: str = config.getoption("--device")
    on_gpu = device_type(device) == "cuda"
    known = _gpus() if on_gpu else ["cpu"]
    if device not in known:
        raise UsageError(f"device {device!r}: expected one of {', '.join(known) or '(torch finds no GPU)'}")
    if on_gpu:
        import torch

        torch.cuda.set_device(device)
    return device


def _gpus() -> list[str]:
    """Return torch's names of the GPUs: `cuda` for the first one, and `cuda:N` for each."""
    import torch

    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    numbered = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cuda", *numbered] if numbered else []


def variants_under_test(config: pytest.Config) -> list[Variant]:
    """Load the variants that `--variant` names or, without that option, those of the plugins that `--plugin` names.

    Raises pytest.UsageError if a plugin or variant can't be found, or if there is no variant to test.
    """
    if VARIANTS not in config.stash:
        config.stash[VARIANTS] = _load(config.getoption("--variant"), config.getoption("--plugin"))
    return config.stash[VARIANTS]


def _load(names: list[str], plugins: list[str]) -> list[Variant]:
    try:
        sources = [named_source(text) for text in plugins]
        if names:
            sources += entry_point_sources()
        offered, problems = _offered(sources)
    except AttnbenchError as error:
        raise pytest.UsageError(str(error)) from None
    if not names:
        names = list(offered)
    if not names:
        reason = "; ".join(problems) or "no --variant and no --plugin is given"
        raise pytest.UsageError(f"no variant to test: {reason}. Name one with --variant NAME [--plugin FILE.py]")
    missing = [name for name in names if name not in offered]
    if missing:
        found = "; ".join([str(unknown("variant", missing[0], offered)), *problems])
        raise pytest.UsageError(found)
    return [offered[name] for name in names]


def _offered(sources: list[Any]) -> tuple[dict[str, Variant], list[str]]:
    """Load plugins; return their variants by name, and the errors of the plugins that could not be loaded.

    If several variants have the same name, the first one is used.
    """
    offered: dict[str, Variant] = {}
    problems = []
    for source, outcome in load_all(sources, skip={}):
        if isinstance(outcome, PluginError):
            problems.append(f"plugin {source.name}: {outcome}")
        elif outcome is not None:
            for candidate in outcome.variants:
                offered.setdefault(candidate.name, candidate)
    return offered, problems
