"""The tile sizes that are tried on a GPU, and the tile size for Triton's interpreter."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import triton
from triton import Config, knobs

TUNING_KEY = [  # a kernel is tuned again if any of these arguments changes
    "heads", "kv_heads", "seq_q", "seq_k", "offset", "left", "right", "prefix", "softcap",
    "HEAD_DIM", "HEAD_DIM_V",
]  # fmt: skip
MAX_UNTUNED_LENGTH = 512  # up to this length, a kernel takes about as long as its launch, so tuning gains nothing


@dataclass(frozen=True)
class Needs:
    """The registers and shared memory that one program of a kernel needs for an outer and an inner tile.

    A program keeps one outer tile, and loads inner tiles into `num_stages` buffers. The outer tile consists of query
    rows, or of keys if `outer_is_keys` is True. `widths` names the arguments that hold the widths of the accumulators,
    and `kept` names those that hold the widths of the outer tile's data in shared memory. `score_tiles` is the number
    of float32 tiles of scores in use at the same time. Accumulators and scores together may take at most `registers` of
    a thread's 255 registers. With more, kernels compiled for sm_90 spilled registers.
    """

    outer_is_keys: bool
    widths: tuple[str, ...]
    score_tiles: int
    registers: int
    kept: tuple[str, ...]

    def tile(self, config: Config) -> tuple[int, int]:
        """Return the lengths of a candidate's outer and inner tiles."""
        rows, keys = config.kwargs["BLOCK_M"], config.kwargs["BLOCK_N"]
        return (keys, rows) if self.outer_is_keys else (rows, keys)

    def registers_of(self, config: Config, arguments: dict[str, Any]) -> float:
        """Estimate the number of registers per thread that accumulators and scores need."""
        outer, inner = self.tile(config)
        width = sum(arguments[name] for name in self.widths)
        return outer * (width + self.score_tiles * inner) / (32 * config.num_warps)

    def shared_bytes_of(self, config: Config, arguments: dict[str, Any]) -> int:
        """Estimate the shared memory that a program needs, in bytes."""
        outer, inner = self.tile(config)
        kept = outer * sum(arguments[name] for name in self.kept)
        streamed = config.num_stages * inner * (arguments["BLOCK_D"] + arguments["BLOCK_DV"])
        return int((kept + streamed) * arguments["query"].element_size())


KERNELS = {
    "forward": Needs(False, ("BLOCK_DV",), 1, 160, ("BLOCK_D",)),
    "grad_key_value": Needs(True, ("BLOCK_D", "BLOCK_DV"), 2, 192, ("BLOCK_D", "BLOCK_DV")),
    "grad_query": Needs(False, ("BLOCK_D",), 2, 192, ("BLOCK_D", "BLOCK_DV")),
}


def tuned(kernel_name: str) -> Callable[[Any], Any]:
    """Return a decorator that tunes a kernel: Triton times the candidates on the first call with each shape.

    In Triton's interpreter, nothing is timed, and the only tile size is small enough that even short sequences have
    several tiles.
    """
    if knobs.runtime.interpret:
        return triton.autotune([Config({"BLOCK_M": 64, "BLOCK_N": 32})], key=[])

    def prune(configs: list[Config], arguments: dict[str, Any], **constants: Any) -> list[Config]:
        return fitting(kernel_name, configs, {**arguments, **constants}, shared_memory())

    return triton.autotune(candidates(), key=TUNING_KEY, prune_configs_by={"early_config_prune": prune})


def candidates() -> list[Config]:
    """Return all combinations of tile sizes, warps and pipeline stages that may suit a shape."""
    return [
        Config({"BLOCK_M": rows, "BLOCK_N": keys}, num_warps=warps, num_stages=stages)
        for rows, keys, warps, stages in product((16, 32, 64, 128), (16, 32, 64, 128), (4, 8), (1, 2, 3))
    ]


def fitting(kernel_name: str, configs: list[Config], arguments: dict[str, Any], shared_bytes: int) -> list[Config]:
    """Return the candidates that suit the shape and fit into registers and `shared_bytes` of shared memory.

    If no candidate fits, the list contains only the smallest tile. `arguments` holds the kernel's arguments, including
    its constants.
    """
    needs = KERNELS[kernel_name]
    lengths = arguments["seq_q"], arguments["seq_k"]
    outer_length = lengths[1] if needs.outer_is_keys else lengths[0]
    wide = arguments["BLOCK_D"] + arguments["BLOCK_DV"] > 256  # wide heads need smaller tiles and more threads
    half = arguments["query"].element_size() == 2  # tensor cores multiply tiles of 16-bit elements

    def suits(config: Config) -> bool:
        outer, inner = needs.tile(config)
        if outer_length <= 32 or max(lengths) <= MAX_UNTUNED_LENGTH:
            smallest = next(size for size in (16, 32, 64) if outer_length <= size or size == (64 if half else 32))
            shape = outer == smallest and inner == (32 if half else 16)
            shape = shape and (config.num_warps, config.num_stages) == (8 if wide else 4, 2)
        elif half:
            shape = outer >= 64 and inner >= 32 and config.num_stages > 1
            shape = shape and (inner <= outer if outer == 128 else inner == 64 or (wide and inner == 32))
            busy = needs.registers_of(config, arguments) >= 96  # with less work per thread, eight warps don't pay off
            shape = shape and (config.num_warps == 4 or (busy and (wide or outer == 128)))
        else:
            shape = outer in (32, 64) and inner in (16, 32) and config.num_stages == 2
            shape = shape and (config.num_warps == 8 or outer * inner == 512)
        return (
            shape
            and needs.registers_of(config, arguments) <= needs.registers
            and needs.shared_bytes_of(config, arguments) <= shared_bytes
        )

    return [config for config in configs if suits(config)] or [Config({"BLOCK_M": 16, "BLOCK_N": 16}, 4, 1)]


def shared_memory() -> int:
    """Return how many bytes of shared memory one program can use on the current CUDA device."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return int(properties.shared_memory_per_block_optin)
