from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from attnbench.machine.software_checks import REMEDIES
from attnbench.worker import extensions


def chained():
    """Return an error whose first cause names a missing library, as xformers stores it."""
    error, cause = ValueError("can't load C++/CUDA extensions"), OSError("Could not load this library")
    error.__cause__, cause.__cause__ = cause, OSError("libcudart.so.12: cannot open shared object file")
    return error


def test_each_library_that_doctor_examines_can_be_loaded_by_name():
    """`attnbench doctor` and the loader know the same libraries."""
    assert set(extensions.LOADERS) == set(REMEDIES)


def test_the_first_cause_of_a_failure_is_the_message(monkeypatch):
    """If xformers could not load its kernels, the process exits with the library that is missing."""
    monkeypatch.setitem(sys.modules, "xformers._cpp_lib", SimpleNamespace(_cpp_library_load_exception=chained()))
    with pytest.raises(SystemExit) as ended:
        extensions.main("xformers")
    assert ended.value.code == "OSError: libcudart.so.12: cannot open shared object file"


def test_a_library_that_loads_ends_without_a_message(monkeypatch):
    """If nothing fails, the process exits normally."""
    monkeypatch.setitem(sys.modules, "xformers._cpp_lib", SimpleNamespace(_cpp_library_load_exception=None))
    monkeypatch.setitem(sys.modules, "flash_attn_2_cuda", SimpleNamespace())
    assert extensions.main("xformers") is None
    assert extensions.main("flash_attn") is None
