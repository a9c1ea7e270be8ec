"""Load the compiled part of a library: `python -m attnbench.worker.extensions NAME`.

`attnbench doctor` runs this in a separate process, because the libraries import torch and may crash. The exit code is 0
if the compiled part could be loaded. Otherwise the last line of stderr is the error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from attnbench.errors import describe


def load_xformers() -> None:
    """Load the CUDA kernels of xformers, which only logs a warning if they can't be loaded. Raises the error."""
    error = import_module("xformers._cpp_lib")._cpp_library_load_exception  # noqa: SLF001 - xformers has no public name
    if error is not None:
        raise error


def load_flash_attn() -> None:
    """Load the CUDA kernels of FlashAttention 2."""
    import_module("torch")  # loads the libraries that the kernels are linked against
    import_module("flash_attn_2_cuda")


def load_triton() -> None:
    """Load Triton, and compile and load the C module with which it launches kernels."""
    import_module("triton")
    import_module("triton.backends.nvidia.driver").CudaUtils()


LOADERS: dict[str, Callable[[], None]] = {
    "xformers": load_xformers,
    "flash_attn": load_flash_attn,
    "triton": load_triton,
}


def main(library: str) -> None:
    """Load the compiled part of `library`. If this fails, exit with code 1 and the error on stderr."""
    try:
        LOADERS[library]()
    except Exception as error:  # noqa: BLE001 - a library may raise anything
        cause: BaseException = error
        while cause.__cause__ is not None:  # the first error names the missing library, e.g. libcudart.so.12
            cause = cause.__cause__
        sys.exit(describe(cause))


if __name__ == "__main__":
    main(sys.argv[1])
