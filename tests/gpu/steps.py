"""The steps of both calls, with their time limits: the most telling first, and nothing that could harm a shared GPU."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import packages

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CLOSING_S = 30.0  # for the summary and the archive
FIRST_S = 560.0  # the first call must end by then; some machines stop a command after ten minutes
OVERHEAD_S = 0.5  # a guess of a cell's time apart from sampling
BUDGETS_S = (0.1, 0.5)  # bounds of a cell's budget in the second call

# Variants whose libraries are not installed are `unsupported`, which takes no time.
FUSED = "sdpa-flash,sdpa-cudnn,triton-flash,varlen,flash-attn-*,sdpa-fa*,transformer-engine,flashinfer"
OTHERS = "sdpa,sdpa-efficient,sdpa-math,varlen-nested,chunked,naive,sage,xformers*"
# FlashAttention-3's table (Shah et al., 2024, arXiv:2407.08608, figures 5 and 6). If a run is interrupted, the lengths
# that it has reached still cover the whole range.
TOKENS, WIDTH, LENGTHS = 16384, 2048, (16384, 2048, 512, 8192, 1024, 4096)


@dataclass(frozen=True)
class Step:
    """Commands that are run one after another and share a time limit in seconds."""

    name: str
    limit_s: float
    commands: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Call:
    """The steps of one call, and the time that all of them and the summary may take together."""

    name: str
    steps: tuple[Step, ...]

    @property
    def seconds(self) -> float:
        """The sum of the limits, including the time for the summary and the archive."""
        return sum(step.limit_s for step in self.steps) + CLOSING_S

    def scaled_to(self, seconds: float) -> Call:
        """Return this call with all limits changed by the same factor, so that their sum is `seconds`."""
        factor = max(0.0, seconds - CLOSING_S) / (self.seconds - CLOSING_S)
        return Call(self.name, tuple(replace(step, limit_s=step.limit_s * factor) for step in self.steps))


@dataclass(frozen=True)
class Setting:
    """Where a call runs: the device (`cuda` or `cpu`), and the folders of results, installed packages and wheels."""

    device: str
    work: Path
    site: Path
    wheels: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the steps. The installed wheels come before the interpreter's own packages."""
        path = os.pathsep.join(filter(None, (str(self.site), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}

    def run(self, name: str, variants: str, workloads: Iterable[str], *options: str) -> tuple[str, ...]:
        """Return the command that measures workloads, given by their ids, in a run called `name`."""
        chosen = ("-v", variants, "-d", self.device, "-w", ",".join(workloads), "--name", name)
        return attnbench("run", *chosen, "--results", str(self.work / "runs"), *options)

    def pick(self, on_cuda: str, on_cpu: str) -> str:
        """Return the workload for the device. A rehearsal on a CPU uses small workloads."""
        return on_cpu if self.device == "cpu" else on_cuda


def attnbench(*arguments: str) -> tuple[str, ...]:
    """Return the command line of an `attnbench` command."""
    return (sys.executable, "-m", "attnbench", *arguments)


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a program in this folder."""
    return (sys.executable, str(HERE / f"{name}.py"), *arguments)


def call(name: str, setting: Setting, seconds: float | None = None) -> Call:
    """Return the call with the given name, with its limits scaled to `seconds`, if given."""
    return CALLS[name](setting, seconds)


def first(setting: Setting, seconds: float | None = None) -> Call:
    """Return the first call: whether everything works, and the numbers that tell the most."""
    device = setting.device
    one = setting.pick("b4-h16-s4096-d128-bfloat16-causal-forward", "b1-h4-s256-d64-float32-causal-forward")
    shape = setting.pick("b4-h16-s2048-d128-bfloat16-causal", "b1-h2-s128-d64-float32-causal")
    decode = setting.pick(
        "b32-h32-kv8-q1-k4096-d128-bfloat16-causal-forward", "b4-h8-kv2-q1-k256-d64-float32-causal-forward"
    )
    long = setting.pick("b1-h8-kv1-s131072-d128-bfloat16-causal-forward", "b1-h2-kv1-s2048-d64-float32-causal-forward")
    steps = (
        _install(setting),
        Step("machine", 25, (script("machine_facts", device), attnbench("doctor"), attnbench("list", "devices"))),
        Step(
            "one-shape",
            60,
            (
                setting.run("one-shape", "sdpa,triton-flash", [one], "--budget", "0.5"),
                attnbench("report", "one-shape", "--results", str(setting.work / "runs")),
            ),
        ),
        Step(
            "variants",
            200,
            (
                setting.run(
                    "variants",
                    "sdpa*,naive,chunked,varlen*,flex,triton-flash",
                    [f"{shape}-{direction}" for direction in ("forward", "forward_backward")],
                    *("--budget", "0.5", "--timeout", "60"),
                ),
            ),
        ),
        Step("agreement", 45, (script("agreement", device),)),
        Step(
            "decode",
            60,
            tuple(
                setting.run(f"decode-{mode}", "sdpa*,triton-flash", [decode], "--mode", mode, "--budget", "0.3")
                for mode in (("hot", "graph") if device == "cuda" else ("hot",))
            ),
        ),
        Step("back-to-back", 20, (script("back_to_back", device),)),
        Step("check", 50, (script("strides_last", "sdpa-flash", device),)),
        Step("long", 20, (setting.run("long", "sdpa-flash", [long], "--budget", "0.5"),)),
    )
    made = Call("first", tuple(step for step in steps if step))
    return made if seconds is None else made.scaled_to(seconds)


def second(setting: Setting, seconds: float | None = None) -> Call:
    """Return the second call: FlashAttention-3's table, and variants that must be caught."""
    device = setting.device
    cells = {
        "fused": (FUSED, [*table(setting, 128), *table(setting, 64), *table(setting, 256)]),
        "others": (OTHERS, [*table(setting, 128), *table(setting, 64), *table(setting, 256)]),
        "flex": ("flex", table(setting, 128)),  # in a run of its own, because it compiles each shape anew
    }
    steps = (
        _install(setting),
        Step("fused", 80, ()),
        Step("others", 35, ()),
        Step("flex", 25, ()),
        Step("dishonest", 45, (script("caught", device),)),
        Step("wrong", 30, (script("wrong", device),)),
        Step("faults", 15, (script("faults", device, str(setting.work / "runs")),)),
    )
    made = Call("second", tuple(step for step in steps if step))
    made = made if seconds is None else made.scaled_to(seconds)
    return replace(made, steps=tuple(_with_cells(step, setting, cells) for step in made.steps))


CALLS: dict[str, Callable[[Setting, float | None], Call]] = {"first": first, "second": second}


def table(setting: Setting, head_dim: int) -> list[str]:
    """Return the ids of the workloads of FlashAttention-3's table for one head dimension."""
    tokens, width, lengths = (TOKENS, WIDTH, LENGTHS) if setting.device == "cuda" else (512, 256, (256, 128))
    dtype = "float16" if setting.device == "cuda" else "float32"
    return [
        f"b{tokens // length}-h{width // head_dim}-s{length}-d{head_dim}-{dtype}-{mask}-{direction}"
        for length, mask, direction in itertools.product(lengths, ("causal", "none"), ("forward", "backward"))
    ]


def _install(setting: Setting) -> Step | None:
    command = packages.install(setting.wheels, setting.site)
    return Step("install", 20, (command,)) if command else None


def _with_cells(step: Step, setting: Setting, cells: dict[str, tuple[str, list[str]]]) -> Step:
    """Return a step of the table with its command, in which the budget of a cell follows from the step's limit."""
    if step.name not in cells:
        return step
    variants, workloads = cells[step.name]
    spare = step.limit_s / (len(workloads) * len(variants.split(","))) - OVERHEAD_S
    budget = min(max(spare, BUDGETS_S[0]), BUDGETS_S[1])
    command = setting.run(step.name, variants, workloads, "--budget", f"{budget:.2f}", "--timeout", "60")
    return replace(step, commands=(command,))


def describe(chosen: Call) -> str:
    """Return the steps of a call with their limits and commands, and the sum of the limits."""
    lines = []
    for step in chosen.steps:
        lines.append(f"{step.limit_s:5.0f} s  {step.name}")
        lines += [f"           {shlex.join(_shown(command))}" for command in step.commands]
    lines.append(f"{CLOSING_S:5.0f} s  summary and archive")
    lines.append(f"{chosen.seconds:5.0f} s  in all")
    return "\n".join(lines)


def _shown(command: Sequence[str]) -> list[str]:
    """Return a command with its paths and lists shortened."""
    short = [Path(word).name if word.startswith("/") else word for word in command]
    return [f"{word[:100]}..." if len(word) > 100 else word for word in short]
