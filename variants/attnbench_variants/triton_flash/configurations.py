"""The configurations that may suit a kernel, a shape and a GPU.

The lists hold only configurations that neither spill registers nor, on Hopper, serialise the tensor cores' instructions
when they are compiled: docs/kernels.md has the figures, and a test compiles them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

MAX_UNTUNED_LENGTH = 512  # up to this length, a kernel takes about as long as its launch, so tuning gains nothing
MAX_TILE_LENGTH = 128  # no configuration has longer tiles
ALIGNMENT_BYTES = 16  # tensor descriptors require it of addresses and rows
HOPPER = 9  # the major compute capability of the GPUs on which a kernel may run ahead
KEYS_OUTSIDE = ("grad_key_value", "gradients")  # the kernels whose programs keep a tile of keys

Options = dict[str, int]  # the constants and options with which a kernel is compiled


@dataclass(frozen=True)
class Shape:
    """The sizes on which the choice of configurations depends; an element has `element_size` bytes."""

    seq_q: int
    seq_k: int
    head_dim: int
    head_dim_v: int
    element_size: int

    @cached_property
    def widths(self) -> Options:
        """The kernels' constants for the head sizes. The widths of tiles are powers of two, at least 16."""
        return {
            "HEAD_DIM": self.head_dim,
            "HEAD_DIM_V": self.head_dim_v,
            "BLOCK_D": max(16, 1 << (self.head_dim - 1).bit_length()),
            "BLOCK_DV": max(16, 1 << (self.head_dim_v - 1).bit_length()),
        }

    @property
    def may_run_ahead(self) -> bool:
        """Whether tensor descriptors can describe the keys and values; their rows must be multiples of 16 bytes."""
        rows = self.head_dim * self.element_size, self.head_dim_v * self.element_size
        return self.element_size == 2 and self.seq_k > 0 and not any(row % ALIGNMENT_BYTES for row in rows)


@dataclass(frozen=True)
class Gpu:
    """The compute capability of a GPU and the shared memory, in bytes, that one program can use."""

    capability: tuple[int, int]
    shared_bytes: int


@dataclass(frozen=True)
class Configuration:
    """One way to compile a kernel.

    A program keeps one outer tile, and loads inner tiles into `stages` buffers. The outer tile consists of query rows,
    or of keys in the kernels in KEYS_OUTSIDE. The docstring of the forward kernel explains `ahead`.
    """

    outer: int
    inner: int
    warps: int
    stages: int = 2
    ahead: bool = False

    def options(self, kernel: str) -> Options:
        """Return the arguments that are added to a launch of `kernel`."""
        rows, keys = (self.inner, self.outer) if kernel in KEYS_OUTSIDE else (self.outer, self.inner)
        options: Options = {"BLOCK_M": rows, "BLOCK_N": keys, "num_warps": self.warps, "num_stages": self.stages}
        return {**options, "AHEAD": self.ahead} if kernel == "forward" else options

    def shared_bytes(self, kernel: str, shape: Shape, gpu: Gpu) -> int:
        """Return an upper bound of the shared memory that one program needs on a GPU, in bytes."""
        block_d, block_dv = shape.widths["BLOCK_D"], shape.widths["BLOCK_DV"]
        width = block_d + block_dv
        elements = self.outer * (block_d if kernel == "forward" else width)
        elements += self.stages * self.inner * width
        if self.ahead:
            elements += self.inner * block_d  # the buffer of the keys that follow
        extra = 2048 if shape.element_size == 2 else 8192  # for row sums and addresses
        if kernel == "gradients" and gpu.capability[0] == HOPPER:
            # The operands and the float32 result of the fifth product pass through shared memory.
            extra += self.outer * (block_d + self.inner) * shape.element_size + self.inner * block_d * 4
        return elements * shape.element_size + extra


def _parsed(*texts: str) -> tuple[Configuration, ...]:
    """Return configurations written as OUTERxINNERwWARPSsSTAGES, with a final `a` for those that run ahead."""
    return tuple(
        Configuration(*map(int, re.findall(r"\d+", text)), ahead=text.endswith("a"))  # type: ignore[arg-type]
        for text in texts
    )


# For 16-bit elements on Hopper, by the width of the widest tile.
ON_HOPPER = {
    "forward": {
        64: _parsed("128x128w8s2", "128x64w8s3", "64x64w4s2", "128x128w8s2a", "128x64w8s2a", "64x64w4s2a"),
        128: _parsed("128x128w8s2", "128x64w8s3", "64x64w4s2", "128x128w8s2a", "128x64w8s2a", "64x64w4s2a"),
        256: _parsed("128x32w8s2", "64x64w8s2", "128x32w8s2a", "64x32w4s2a"),
    },
    "grad_key_value": {
        64: _parsed("128x64w8s2", "128x32w8s2", "64x64w4s2", "64x32w4s2"),
        128: _parsed("128x32w8s2", "128x32w8s3", "64x32w8s2"),
        256: _parsed("32x32w8s2", "32x32w8s3"),
    },
    "gradients": {
        64: _parsed("128x64w8s2", "128x32w8s2", "64x64w4s2"),
        128: _parsed("64x64w8s2", "128x32w8s2", "64x32w8s2"),
        256: _parsed("32x32w8s2", "32x32w8s3"),
    },
    "grad_query": {
        64: _parsed("128x64w8s2", "128x64w8s3", "64x64w4s2"),
        128: _parsed("128x64w8s2", "128x32w8s3", "64x64w4s2", "64x32w4s2"),
        256: _parsed("128x32w8s2", "64x32w8s2", "64x64w8s2", "32x32w4s2"),
    },
}
# For 16-bit elements on other GPUs, by the width of the widest tile.
ELSEWHERE = {
    "forward": {
        64: _parsed("128x64w8s2", "128x64w8s3", "64x64w4s2"),
        128: _parsed("128x64w8s2", "128x32w8s3"),
        256: _parsed("64x32w8s2"),
    },
    "grad_key_value": {
        64: _parsed("128x32w8s2", "64x32w4s2"),
        128: _parsed("64x64w8s2", "64x32w8s2"),
        256: _parsed("32x32w4s2"),
    },
    "gradients": {
        64: _parsed("128x32w8s2", "64x32w4s2"),
        128: _parsed("64x32w8s2", "64x32w8s3"),
        256: _parsed("32x32w8s2"),
    },
    "grad_query": {
        64: _parsed("128x64w8s2", "64x64w4s2", "64x64w4s3"),
        128: _parsed("128x32w8s2", "64x32w4s2"),
        256: _parsed("64x32w8s2", "64x64w8s2", "32x32w8s2"),
    },
}
# For 32-bit elements, which are not multiplied on tensor cores.
FLOAT32 = {width: _parsed("64x16w8s2", "32x16w8s2") for width in (64, 128)} | {256: _parsed("32x16w8s2", "32x16w8s1")}
SMALLEST = Configuration(16, 16, 4, 1)  # for GPUs with little shared memory


def configurations(kernel: str, shape: Shape, gpu: Gpu) -> list[Configuration]:
    """Return the configurations that suit the shape and fit into the GPU's shared memory: at least one."""
    half = shape.element_size == 2
    widest = max(64, shape.widths["BLOCK_D"], shape.widths["BLOCK_DV"])
    outer = shape.seq_k if kernel in KEYS_OUTSIDE else shape.seq_q
    if outer <= 32 or max(shape.seq_q, shape.seq_k) <= MAX_UNTUNED_LENGTH:
        offered = _short(kernel, outer, widest, half)
    elif half:
        lists = ON_HOPPER if gpu.capability[0] == HOPPER else ELSEWHERE
        offered = lists[kernel][widest]
    else:
        offered = FLOAT32[widest]
    fitting = [
        each for each in offered
        if each.shared_bytes(kernel, shape, gpu) <= gpu.shared_bytes and (shape.may_run_ahead or not each.ahead)
    ]  # fmt: skip
    return fitting or [SMALLEST]


def _short(kernel: str, outer: int, widest: int, half: bool) -> tuple[Configuration, ...]:
    """Return the only configuration for a short sequence, whose tiles are not much longer than the sequence."""
    longest = 64 if half and widest <= 128 else 32
    length = next(length for length in (16, 32, 64) if outer <= length or length == longest)
    warps = 8 if widest == 256 or (widest == 128 and kernel == "gradients") else 4
    return (Configuration(length, 32 if half else 16, warps),)
