"""Compile the configurations of triton-flash for several GPUs, and write what the compiler says about each of them.

`python tests/variants/kernel_table.py` writes kernels_triton_X.Y.md beside it for the installed version of
Triton. No GPU is needed, because nothing runs.
"""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attnbench_variants.triton_flash import backward, backward_keys, forward
from attnbench_variants.triton_flash.configurations import Configuration, Gpu, Shape, configurations

TABLES_FOLDER = Path(__file__).parent
KERNELS = {
    "forward": forward.forward_kernel,
    "grad_key_value": backward_keys.grad_key_value_kernel,
    "grad_query": backward.grad_query_kernel,
    "gradients": backward_keys.gradients_kernel,
}
# One program's shared memory: NVIDIA, CUDA programming guide, table of the compute capabilities.
GPUS = {"sm_80": Gpu((8, 0), 163 * 1024), "sm_89": Gpu((8, 9), 99 * 1024), "sm_90": Gpu((9, 0), 227 * 1024)}
HEAD_DIMS = (64, 128, 256)
GROUPS = {"forward": (1,), "grad_query": (1,), "grad_key_value": (1, 4), "gradients": (1, 4)}
LENGTH = 4096
TABLES = ("key_lengths", "document_starts", "document_stops")
FEATURES = (*TABLES, "slopes", "left", "right", "prefix", "softcap")
FLOATS = ("log_sum", "padded_log_sum", "row_dots", "sums", "slopes")
NUMBERS = ("heads", "kv_heads", "seq_q", "padded", "seq_k", "offset", "left", "right", "prefix")
HEADINGS = (
    "kernel", "head_dim", "GPU", "outer tile", "inner tile", "warps", "stages", "ahead", "group", "registers",
    "spilled bytes", "shared bytes", "serialised",
)  # fmt: skip


@dataclass(frozen=True)
class Resources:
    """What one program of a compiled kernel needs.

    `spilled_bytes` is the sum of the bytes that are stored and loaded because registers are lacking, and `serialised`
    is True if the compiler warns that it serialises the instructions of Hopper's tensor cores.
    """

    registers: int
    spilled_bytes: int
    shared_bytes: int
    serialised: bool


def shape_of(head_dim: int, element_size: int = 2) -> Shape:
    """Return the shape of a long sequence."""
    return Shape(LENGTH, LENGTH, head_dim, head_dim, element_size)


def compiled(kernel: str, configuration: Configuration, shape: Shape, gpu: Gpu, group: int = 1) -> tuple[Any, str]:
    """Compile a kernel for a causal mask, and return the result and what the assembler says about it."""
    function = KERNELS[kernel]
    options = configuration.options(kernel)
    compiler_options = {name: options.pop(name) for name in ("num_warps", "num_stages")}
    constants = {**shape.widths, **options, "GROUP": group, "RAGGED": False}
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    absent = dict.fromkeys(name for name in FEATURES if name in function.arg_names and name != "right")
    element = "*bf16" if shape.element_size == 2 else "*fp32"
    types = {
        **dict.fromkeys(function.arg_names, element),
        **dict.fromkeys(FLOATS, "*fp32"),
        **dict.fromkeys(TABLES, "*i32"),
        **dict.fromkeys(NUMBERS, "i32"),
        **dict.fromkeys(("scale", "softcap"), "fp32"),
        **dict.fromkeys((*constants, *absent), "constexpr"),
    }
    # A launch tells the compiler which addresses and numbers are multiples of 16.
    aligned = [name for name in function.arg_names if types[name] == "i32" or types[name].startswith("*")]
    source = ASTSource(
        function,
        signature={name: types[name] for name in function.arg_names},
        constexprs={**constants, **absent},
        attrs={(function.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned if name != "kv_heads"},
    )
    major, minor = gpu.capability
    return logged(source, GPUTarget("cuda", 10 * major + minor, 32), compiler_options)


def logged(source: ASTSource, target: GPUTarget, options: dict[str, int]) -> tuple[Any, str]:
    """Compile a kernel, and return the result and what the assembler says about it."""
    printed = io.StringIO()
    with knobs.compilation.scope(), knobs.nvidia.scope(), contextlib.redirect_stdout(printed):
        knobs.compilation.always_compile = knobs.nvidia.dump_ptxas_log = True
        result = triton.compile(source, target=target, options=options)
    return result, printed.getvalue()


def resources(result: Any, log: str) -> Resources:
    """Return what one program of a compiled kernel needs."""
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    return Resources(
        registers=int(re.search(r"Used (\d+) registers", log)[1]),
        spilled_bytes=sum(map(int, spilled.groups())),
        shared_bytes=result.metadata.shared,
        serialised="wgmma.mma_async instructions are serialized" in log,
    )


def overlapping_exponentials(result: Any) -> int:
    """Return how many exponentials Hopper's machine code has between the start of products and the wait for them."""
    pending, found = False, 0
    for instruction in re.findall(r"\b(?:HGMMA|WARPGROUP\.DEPBAR|MUFU\.EX2)\b", result.asm["sass"]):
        found += pending and instruction == "MUFU.EX2"
        pending = instruction == "HGMMA" or (pending and instruction == "MUFU.EX2")
    return found


def offered() -> list[tuple[str, int, str, Configuration, int]]:
    """Return all rows of the table: kernel, head_dim, GPU, configuration and group size."""
    return [
        (kernel, head_dim, gpu, configuration, group)
        for kernel in KERNELS
        for head_dim in HEAD_DIMS
        for gpu in GPUS
        for configuration in configurations(kernel, shape_of(head_dim), GPUS[gpu])
        for group in GROUPS[kernel]
    ]


def row(kernel: str, head_dim: int, gpu: str, configuration: Configuration, group: int) -> str:
    """Compile one configuration and return its row of the table."""
    needed = resources(*compiled(kernel, configuration, shape_of(head_dim), GPUS[gpu], group))
    return table_row(
        *cells(kernel, head_dim, gpu, configuration, group),
        needed.registers, needed.spilled_bytes, needed.shared_bytes, "yes" if needed.serialised else "no",
    )  # fmt: skip


def cells(kernel: str, head_dim: int, gpu: str, configuration: Configuration, group: int) -> tuple[object, ...]:
    """Return the cells of a row that say what was compiled."""
    c = configuration
    return (kernel, head_dim, gpu, c.outer, c.inner, c.warps, c.stages, "yes" if c.ahead else "no", group)


def table_row(*values: object) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(map(str, values)) + " |"


def path_of_table() -> Path:
    """Return the path of the table of the installed version of Triton."""
    return TABLES_FOLDER / f"kernels_triton_{'.'.join(triton.__version__.split('.')[:2])}.md"


def main() -> None:
    """Write the table."""
    rows = [table_row(*HEADINGS), table_row(*["---"] * len(HEADINGS))]
    for each in offered():
        rows.append(row(*each))
        print(rows[-1], flush=True)
    path_of_table().write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
