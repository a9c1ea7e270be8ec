"""Command-line help and shell completion."""

import shlex
import subprocess
import sys

import pytest
import typer

import synthetic
from attnbench import __version__
from attnbench.cli.app import app
from attnbench.cli.completion import last_of
from attnbench.cli.examples import EXAMPLES
from command_line import attnbench

GROUP = typer.main.get_command(app)


def test_every_command_has_examples():
    """Every command has examples, and every example belongs to a command."""
    assert set(EXAMPLES) == set(GROUP.commands)


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_is_valid(line):
    """Each example starts with its command, and its options and arguments are valid."""
    program, name, *arguments = shlex.split(line.partition(" >")[0])
    assert program == "attnbench"
    assert line in EXAMPLES[name]
    GROUP.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_help_ends_with_the_examples(name, capsys):
    """The help of each command has a usage line, a description of each option, and the examples on separate lines."""
    with pytest.raises(typer.Exit):
        GROUP.commands[name].make_context(name, ["--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("Usage:")
    for parameter in GROUP.commands[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
    assert shown.rstrip().endswith("\n".join(f"    {line}" for line in EXAMPLES[name]))


def test_the_list_of_commands_is_complete():
    """Each command is listed with the untruncated first line of its help, and all lines fit into 80 columns."""
    shown = attnbench("--help", environment={"COLUMNS": "80"}).stdout
    assert "..." not in shown.partition("Commands:")[2]
    assert max(map(len, shown.splitlines())) <= 80
    assert "workloads x devices" in shown


def test_version():
    """--version prints the version and nothing else."""
    assert attnbench("--version").stdout == f"attnbench {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("attnbench stu", "study"),
        ("attnbench run -v naive,sdpa-fl", "naive,sdpa-flash"),
        ("attnbench run --mask causal-", "causal-top-left"),
        ("attnbench run -s lla", "llama"),
        ("attnbench list dev", "devices"),
        ("attnbench study mem", "memory"),
        ("attnbench check chunked-s", "chunked-splitkv"),
        ("attnbench report fir", "first"),
        ("attnbench compare first sec", "second"),
    ],
)
def test_the_shell_completes_values(typed, completed, tmp_path, monkeypatch):
    """Commands and values such as variants, suites, masks and runs are completed, even after a comma."""
    for run in ("first", "second"):
        synthetic.make_run(tmp_path / "results", name=run, cells=synthetic.workloads(seqs=(256,)), variants=("sdpa",))
    monkeypatch.chdir(tmp_path)
    typing = {
        "_ATTNBENCH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1),
    }  # fmt: skip
    done = attnbench(environment=typing)
    assert done.stdout.splitlines() == [completed], done.stderr


def test_completion_never_fails():
    """If an error occurs while values are looked up, no completion is suggested."""
    assert last_of(lambda: 1 / 0)("a") == []


def test_both_quiet_and_verbose_contradict_each_other():
    """Giving both --quiet and --verbose is a usage error."""
    done = attnbench("run", "-q", "--verbose", "--dry-run")
    assert done.returncode == 2
    assert "--quiet and --verbose can't be combined" in done.stderr


def test_help_imports_nothing_slow():
    """--help is fast because only the commands that need slow packages import them."""
    code = (
        "import contextlib, io, sys\n"
        "from attnbench.cli import main\n"
        "sys.argv = ['attnbench', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print(*(name for name in sys.modules if name.startswith('attnbench.runner')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages, runner = done.stdout.split("\n")[:2]
    assert not {"numpy", "pandas", "psutil", "pyarrow", "rich", "scipy", "torch"} & set(packages.split())
    assert not runner


@pytest.mark.parametrize(
    ("command", "shown"), [("list suites", "quick"), ("run --suite quick --variant sdpa --dry-run", "cells to time")]
)
def test_scipy_is_imported_with_the_first_interval(command, shown, tmp_path):
    """Listing and planning do not import SciPy, because only the computation of intervals needs it."""
    code = (
        "import contextlib, sys\n"
        "from attnbench.cli import main\n"
        f"sys.argv = ['attnbench', *{command.split()!r}]\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "assert 'scipy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
