from __future__ import annotations

import inspect
import sys

import pytest

from attnbench.machine import triton_compiler
from attnbench.machine.triton_compiler import header_folders, triton_compiler_problem


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return the folder of a machine that has no compiler and no headers yet: programs go to `bin`, headers to `h`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "h").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(triton_compiler.sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path / "h")})
    for name in ("CC", "CPATH", "C_INCLUDE_PATH", "TRITON_INTERPRET"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def program(path):
    """Create an empty program."""
    path.touch(mode=0o755)


def test_without_a_compiler_the_remedy_is_a_package_or_cc(machine):
    """If there is neither gcc nor clang, the problem names the packages and the variable."""
    (machine / "h" / "Python.h").touch()
    assert "neither gcc nor clang: apt install gcc, dnf install gcc, or set CC" in triton_compiler_problem()


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_without_python_h_the_remedy_is_the_package_of_this_python(machine, name):
    """If a compiler but no Python.h is found, the problem names the folder and the packages for this Python."""
    program(machine / "bin" / name)
    problem, version = triton_compiler_problem(), f"python3.{sys.version_info.minor}"
    assert f"Python.h, which is not in {machine / 'h'}: apt install {version}-dev" in problem
    (machine / "h" / "Python.h").touch()
    assert triton_compiler_problem() is None


def test_cc_takes_precedence(machine, monkeypatch):
    """CC names the compiler, and a CC that is not a program is a problem even if there is gcc."""
    (machine / "h" / "Python.h").touch()
    program(machine / "bin" / "gcc")
    monkeypatch.setenv("CC", "icx")
    assert "CC='icx' is not a program" in triton_compiler_problem()
    program(machine / "bin" / "icx")
    assert triton_compiler_problem() is None


def test_headers_of_environment_variables_are_found(machine, monkeypatch):
    """Python.h may be in a folder that CPATH gives to the compiler."""
    program(machine / "bin" / "gcc")
    (machine / "elsewhere").mkdir()
    (machine / "elsewhere" / "Python.h").touch()
    monkeypatch.setenv("CPATH", f"{machine / 'bin'}:{machine / 'elsewhere'}")
    assert triton_compiler_problem() is None


def test_the_interpreter_needs_no_compiler(machine, monkeypatch):
    """In Triton's interpreter, nothing is compiled."""
    assert triton_compiler_problem() is not None
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_compiler_problem() is None


def test_the_installed_triton_looks_for_its_compiler_in_the_same_places():
    """Triton's own build function uses CC, gcc, clang and the include folder of this Python, as the check assumes."""
    build = pytest.importorskip("triton.runtime.build")
    source = inspect.getsource(build._build)
    for part in ('os.environ.get("CC")', 'which("gcc")', 'which("clang")', '["include"]', "posix_local"):
        assert part in source
    assert header_folders()[0].is_absolute()
