"""The two calls for a GPU: steps and limits, failures, interruptions, the archive, and the wheels to take along."""

import ast
import functools
import importlib.util
import json
import os
import random
import select
import shlex
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import typer

from attnbench import Workload
from attnbench.cli.app import app
from waiting import LONG_S

sys.path.insert(0, str(Path(__file__).parent / "gpu"))
import archive
import packages
import runner
import steps
import summary

ROOT = Path(__file__).parents[1]
GPU = ROOT / "tests" / "gpu"
FIRST = {  # the steps of the first call and their limits in seconds
    "install": 20, "machine": 25, "one-shape": 60, "variants": 200, "agreement": 45, "decode": 60, "back-to-back": 20,
    "check": 50, "long": 20,
}  # fmt: skip


@pytest.fixture
def setting(tmp_path):
    """Return the setting of a call on a GPU, with one wheel to install."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "pluggy-1.6.0-py3-none-any.whl").touch()
    return steps.Setting("cuda", tmp_path / "work", tmp_path / "site", wheels)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Return a folder for the results of steps, which are interrupted 0.2 s before their limit."""
    monkeypatch.setattr(runner, "INTERRUPTS", (0.2, 0.1))
    (tmp_path / "work" / "logs").mkdir(parents=True)
    return tmp_path / "work"


def run_step(work, *commands, limit_s=LONG_S, name="step", remaining_s=LONG_S):
    """Run a step, and return its outcome and its log."""
    step = steps.Step(name, limit_s, commands)
    outcome = runner.run_step(step, work, os.environ, time.monotonic() + remaining_s)
    return outcome, (work / "logs" / f"{name}.log").read_text()


def python(text):
    """Return the command that runs a Python program."""
    return (sys.executable, "-c", text)


# Steps and limits


def test_first_call_fits_into_its_time(setting):
    """The first call has these steps and limits, and takes at most 560 s with installation, summary and archive."""
    first = steps.call("first", setting)
    assert {step.name: step.limit_s for step in first.steps} == FIRST
    assert first.seconds == sum(FIRST.values()) + steps.CLOSING_S <= 560


@pytest.mark.parametrize("seconds", [200, 330, 560])
@pytest.mark.parametrize("name", ["first", "second"])
def test_limits_are_scaled_to_the_given_time(setting, name, seconds):
    """With a time for the whole call, the limits are scaled so that their sum is this time."""
    call = steps.call(name, setting, seconds)
    assert call.seconds == pytest.approx(seconds)
    assert all(step.limit_s > 0 and step.commands for step in call.steps)


def test_budget_follows_from_the_time(setting):
    """In the second call a cell gets a larger budget if there is more time, within bounds."""

    def budget(seconds):
        call = steps.call("second", setting, seconds)
        (command,) = next(step.commands for step in call.steps if step.name == "fused")
        return float(command[command.index("--budget") + 1])

    assert steps.BUDGETS_S[0] == budget(240) < budget(1500) < budget(10_000) == steps.BUDGETS_S[1]


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_commands_are_valid(setting, name, device):
    """Every command of a call is a program that exists, or a command of attnbench with options that it accepts."""
    call = steps.call(name, steps.Setting(device, setting.work, setting.site, setting.wheels))
    commands = typer.main.get_command(app).commands
    for command in (command for step in call.steps for command in step.commands):
        if command[1:3] == ("-m", "attnbench"):
            context = commands[command[3]].make_context(command[3], list(command[4:]))
            for workload in (context.params.get("workload") or [""])[0].split(","):
                assert not workload or Workload.parse(workload).id == workload
        else:
            assert command[1:3] == ("-m", "pip") or Path(command[1]).is_file(), command


def test_table_is_that_of_flash_attention_3(setting):
    """Each workload of the second call's table has 16384 tokens and a width of 2048, with D 64, 128 and 256."""
    table = [Workload.parse(text) for head_dim in (64, 128, 256) for text in steps.table(setting, head_dim)]
    assert {(workload.batch * workload.seq_q, workload.heads * workload.head_dim) for workload in table} == {
        (16384, 2048)
    }
    assert len(set(table)) == 3 * 6 * 2 * 2
    assert {workload.seq_q for workload in table} == {512, 1024, 2048, 4096, 8192, 16384}
    assert {workload.direction for workload in table} == {"forward", "backward"}


@pytest.mark.parametrize("name", ["first", "second"])
def test_dry_run_needs_only_the_standard_library(name, tmp_path):
    """Without any installed package, the dry run prints each step with its limit, and their sum, and runs nothing."""
    command = [sys.executable, "-I", "-S", str(GPU), name, "--dry-run", "--out", str(tmp_path / "out")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    limits = [int(line.split()[0]) for line in printed.splitlines() if line[:5].strip().isdigit()]
    assert sum(limits[:-1]) == limits[-1] <= 560
    assert not (tmp_path / "out").exists()


# Steps that fail


def test_failed_command_does_not_stop_the_next_one(work):
    """A step whose command fails runs its other commands, and its outcome is that of the command that failed."""
    outcome, log = run_step(work, python("print('broken'); exit(3)"), ("no-such-program",), python("print('after')"))
    assert (outcome.status, outcome.last_line, outcome.failed) == ("exit 3", "broken", True)
    assert "no-such-program: No such file" in log
    assert log.endswith("after\n")
    assert json.loads((work / "steps.jsonl").read_text())["status"] == "exit 3"


class Clock:
    """The clock of the runner, which jumps to the first interrupt as soon as a step has printed `begun`."""

    def __init__(self, log, limit_s):
        self._log, self._jump_s = log, limit_s - runner.INTERRUPTS[0]

    def monotonic(self):
        """Return the time in seconds."""
        return time.monotonic() + (self._jump_s if "\nbegun\n" in self._log.read_text() else 0.0)

    def wait(self, process, timeout):
        """Wait for a process as `Popen.wait` does, but by this clock."""
        end = self.monotonic() + timeout
        while process.poll() is None:
            if self.monotonic() >= end:
                raise subprocess.TimeoutExpired(process.args, timeout)
            time.sleep(0.01)
        return process.returncode


@pytest.mark.parametrize("ignored", [True, False], ids=["ignores-interrupts", "ends-when-interrupted"])
def test_hanging_command_is_ended_at_the_limit(work, monkeypatch, ignored):
    """A command that hangs is interrupted and then killed together with its children; the step is out of time."""
    os.mkfifo(work / "held")  # becomes readable when the child, which holds its other end, has ended
    held = os.open(work / "held", os.O_RDONLY | os.O_NONBLOCK)
    (work / "logs" / "step.log").touch()
    clock = Clock(work / "logs" / "step.log", LONG_S)
    monkeypatch.setattr(runner, "time", clock)
    monkeypatch.setattr(subprocess.Popen, "wait", lambda process, timeout=LONG_S: clock.wait(process, timeout))
    ignore = "trap '' INT; " if ignored else ""
    held_by_child = f"exec 3>{shlex.quote(str(work / 'held'))}; sleep 1000 >&3 & exec 3>&-"
    hang = ("sh", "-c", f"{ignore}{held_by_child}; echo begun; wait")
    outcome, log = run_step(work, hang, python("print('too late')"), limit_s=LONG_S)
    assert outcome.status == "out of time"
    assert log.count("begun\n") == 1
    assert "too late\n" not in log
    assert select.select([held], [], [], LONG_S)[0] == [held]
    assert os.read(held, 1) == b""
    os.close(held)


def test_interrupted_program_shows_what_it_printed(work):
    """If a program is interrupted at the limit, its outcome shows the last line before the traceback."""
    outcome, log = run_step(work, python("print('half done', flush=True); raise KeyboardInterrupt"))
    assert runner.TRACEBACK in log
    assert (outcome.failed, outcome.last_line) == (True, "half done")


def test_step_after_the_deadline_is_not_run(work):
    """A step for which no time is left is not run."""
    outcome, log = run_step(work, python("print('ran')"), remaining_s=-1.0)
    assert outcome.status == "not run"
    assert "\nran" not in log


# A whole call


CALL = """
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, {gpu!r})
import steps

specification = importlib.util.spec_from_file_location("gpu_main", {gpu!r} + "/__main__.py")
main = importlib.util.module_from_spec(specification)
specification.loader.exec_module(main)
main.SUMMARY_S = {limit_s!r}
call = steps.Call("first", tuple(steps.Step(name, {limit_s!r}, (tuple(command),)) for name, command in {steps!r}))
sys.exit(main.run(call, steps.Setting("cpu", Path({work!r}), Path({site!r}), Path("none")), Path({out!r})))
"""


def run_call(tmp_path, **commands):
    """Run a call with these steps in a process of its own, and return the process and the archive's text files."""
    places = {name: str(tmp_path / name) for name in ("work", "site", "out")}
    text = CALL.format(gpu=str(GPU), steps=list(commands.items()), limit_s=LONG_S, **places)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    with tarfile.open(tmp_path / "out" / "first.tar.gz") as tar:
        return done, {name: tar.extractfile(name).read().decode() for name in tar.getnames()}


def test_call_ends_in_an_archive_and_a_summary(tmp_path):
    """After a failed step the others run, the archive has all logs, and the output ends with a summary of 100 lines."""
    many = python("print(*range(1000), sep='\\n'); print('MISSED x'); exit(1)")
    long = {f"broken-{number}": ("sh", "-c", f"echo {'x' * 200}; exit 1") for number in range(60)}
    done, files = run_call(tmp_path, dishonest=many, wrong=python("print('fine')"), **long)
    assert done.returncode == 1, done.stderr
    assert "fine" in files["first/logs/wrong.log"]
    printed = done.stdout[done.stdout.index("# first") :].splitlines()
    assert len(printed) <= 100
    assert len("\n".join(printed)) <= 11_000
    assert printed[1].startswith("exit 1      dishonest")
    assert printed[2].startswith("ok          wrong")
    assert printed[-2].endswith("more lines in summary.md in the archive")
    assert "MISSED x" in files["first/summary.md"].splitlines()
    assert files["first/summary.md"].splitlines()[2].startswith("ok          wrong")


def test_interrupted_call_ends_in_an_archive_too(tmp_path):
    """If a call gets SIGTERM, it ends its step, writes archive and summary, and exits with 130."""
    stop = "import os, signal; print('begun', flush=True); os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    done, files = run_call(tmp_path, check=python(stop), long=python("print('not reached')"))
    assert done.returncode == 130, done.stderr
    assert "begun" in files["first/logs/check.log"]
    assert "first/logs/long.log" not in files
    assert "first/summary.md" in files
    assert done.stdout.rstrip().endswith("interrupted")


# The archive


def contents(target):
    """Return the archive's files: {name: content}."""
    with tarfile.open(target) as tar:
        return {name.partition("/")[2]: tar.extractfile(name).read() for name in tar.getnames()}


def test_archive_trims_the_largest_logs_first(tmp_path):
    """If the files are too large, the largest log keeps only its end, and the archive says so; records stay whole."""
    (tmp_path / "work" / "logs").mkdir(parents=True)
    noise = random.Random(0)  # noqa: S311 - it must only be hard to compress
    for name, size in {"logs/large.log": 400_000, "logs/small.log": 50_000, "records.jsonl": 100_000}.items():
        (tmp_path / "work" / name).write_bytes(noise.randbytes(size))
    target = tmp_path / "all.tar.gz"
    left_out = archive.pack(tmp_path / "work", target, limit_bytes=250_000)
    assert target.stat().st_size <= 250_000
    found = contents(target)
    assert {name: len(content) for name, content in found.items() if name != archive.NOTE} == {
        "logs/large.log": archive.LOG_BYTES, "logs/small.log": 50_000, "records.jsonl": 100_000,
    }  # fmt: skip
    assert found["logs/large.log"] == (tmp_path / "work" / "logs" / "large.log").read_bytes()[-archive.LOG_BYTES :]
    assert left_out == ["logs/large.log: only its last 32 of 390 KiB are kept"]
    assert found[archive.NOTE].decode().splitlines() == left_out


def test_archive_leaves_out_records_last(tmp_path):
    """If trimmed logs do not suffice, other files are left out before records, and each is named."""
    noise = random.Random(0)  # noqa: S311 - it must only be hard to compress
    (tmp_path / "work").mkdir()
    for name in ("figure.png", "a.jsonl", "b.jsonl"):
        (tmp_path / "work" / name).write_bytes(noise.randbytes(60_000))
    target = tmp_path / "all.tar.gz"
    left_out = archive.pack(tmp_path / "work", target, limit_bytes=80_000)
    assert target.stat().st_size <= 80_000
    assert set(contents(target)) == {"b.jsonl", archive.NOTE}
    assert left_out == ["figure.png: left out, 58 KiB", "a.jsonl: left out, 58 KiB"]


# The wheels


def imported_modules(path):
    """Return the names of the top-level modules that a Python file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"attnbench", "attnbench_variants"}


installed_modules = functools.cache(metadata.packages_distributions)  # reads the metadata of all installed packages


def distributions_of(module):
    """Return the normalised names of the distributions that contain a module, or the module's own name."""
    return {packages.name_of(name) for name in installed_modules().get(module, [module])}


def test_wheels_and_image_hold_all_that_the_code_imports():
    """Each module that the code imports is fetched, expected on the image, from an extra, or an optional library."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {packages.name_of(each) for each in project["dependencies"]}
    fetched = {packages.name_of(each) for each in packages.requirements()}
    assert needed == fetched | (set(packages.ON_IMAGE) - {"triton"})
    assert not fetched & set(packages.ON_IMAGE)
    extras = {packages.name_of(each) for extra in project["optional-dependencies"].values() for each in extra}
    # Without these modules a check, a display or a variant is left out. jinja2 and markupsafe come with altair.
    optional = {"hypothesis", "ipython", "jinja2", "markupsafe", "flashinfer", "sageattention", "transformer-engine"}
    files = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "variants").rglob("*.py")]
    for path in files:
        for module in imported_modules(path):
            assert distributions_of(module) & (needed | {"triton"} | extras | optional), f"{path} imports {module}"


def test_code_imports_every_requirement():
    """Each package that is fetched is imported somewhere in the code, so that none travels in vain."""
    files = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "variants").rglob("*.py")]
    imported = {name for path in files for module in imported_modules(path) for name in distributions_of(module)}
    assert {packages.name_of(each) for each in packages.requirements()} <= imported


def write_wheel(folder, tag):
    """Write an empty wheel of the package `compiled` with the given tag."""
    name = "compiled-1.0"
    with zipfile.ZipFile(folder / f"{name}-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: compiled\nVersion: 1.0\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")


@pytest.mark.parametrize(
    ("python_version", "machine", "tag"),
    [
        ("3.12", "x86_64", "cp312-cp312-manylinux_2_17_x86_64"),
        ("3.13", "x86_64", "cp313-cp313-manylinux2014_x86_64"),
        ("3.12", "aarch64", "cp312-cp312-manylinux_2_28_aarch64"),
    ],
)
def test_wheels_fit_the_target(tmp_path, python_version, machine, tag):
    """The options make pip choose wheels for the GPU machine's Python and processor, whatever this machine has."""
    tags = ["cp312-cp312-manylinux_2_17_x86_64", "cp313-cp313-manylinux2014_x86_64", "cp311-cp311-linux_x86_64"]
    for each in [*tags, "cp312-cp312-manylinux_2_28_aarch64", "cp312-cp312-win_amd64"]:
        write_wheel(tmp_path, each)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-index", f"--find-links={tmp_path}"]
    target = packages.target_options(python_version, machine)
    subprocess.run([*pip, *target, f"--dest={tmp_path / 'got'}", "compiled"], check=True)
    assert [path.name for path in (tmp_path / "got").iterdir()] == [f"compiled-1.0-{tag}.whl"]


def test_wheels_are_replaced_and_listed(tmp_path, monkeypatch, capsys):
    """Fetching removes old wheels, asks pip for attnbench and its requirements, and says why xformers is left out."""
    (tmp_path / "old-1.0-py3-none-any.whl").touch()
    asked = []

    def pip(command, *, check):
        asked.append(command)
        (tmp_path / f"new-{len(asked)}-py3-none-any.whl").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(packages.subprocess, "run", pip)
    assert packages.fetch(tmp_path, "3.12", "x86_64", ["sageattention<2"]) == 0
    assert str(ROOT) in asked[0]
    assert {"orjson>=3.10", "msgspec>=0.19", "--python-version=3.12"} <= set(asked[1])
    assert asked[2][-2:] == ["--no-deps", "sageattention<2"]
    printed = capsys.readouterr().out
    assert "old-1.0" not in printed
    assert "new-3" in printed
    assert "left out: xformers" in printed


# The programs of the steps


def test_summary_shows_times_and_failures(stubbed):
    """The summary of a run with several lengths is a table with a line per variant, and a line per kind of failure."""
    stubbed.behave(beta={"open": "exit"})
    run, _ = stubbed.run(seq=(16, 32))
    lines = summary.run_lines(summary.load(run))
    assert lines[0] == "2 of 4 cells are ok, 0 unsupported"
    assert lines[1].split()[-2:] == ["16", "32"]
    assert lines[2].startswith("alpha, D8, none, forward")
    assert lines[3].startswith("beta: crash at b1-h2-s16-d8-float32-none-forward and 1 more: ")
    assert len(lines) == 4


def test_summary_shows_one_line_per_cell(stubbed):
    """The summary of a run with one length has one line per timed cell, with its time and throughput."""
    run, _ = stubbed.run(seq=(16,))
    lines = summary.run_lines(summary.load(run))
    assert sorted(line.split()[0] for line in lines[1:]) == ["alpha", "beta"]
    assert all(" ms" in line and " TFLOP/s" in line for line in lines[1:])


LOAD = """
import importlib.util, os, runpy, sys, traceback
from pathlib import Path

sys.path.insert(0, {gpu!r})
for name in ("torch", "triton"):  # once, because importing them takes seconds
    if importlib.util.find_spec(name):
        __import__(name)
for path in sorted(Path({gpu!r}).glob("*.py")):
    child = os.fork()
    if child == 0:
        try:
            runpy.run_path(str(path), run_name="loaded")
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    print(path.stem, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_programs_can_be_loaded():
    """Each program for the GPU can be loaded, so every module that it imports exists."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LOAD.format(gpu=str(GPU))],
        capture_output=True,
        text=True,
        check=True,
    )
    codes = dict(line.split() for line in done.stdout.splitlines())
    needs_triton = () if importlib.util.find_spec("triton") else ("agreement", "back_to_back", "caught", "fault_pack")
    expected = {path.stem for path in GPU.glob("*.py")}
    assert codes.keys() == expected
    assert {name: code for name, code in codes.items() if name not in needs_triton and code != "0"} == {}, done.stderr
