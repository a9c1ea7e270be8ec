"""The release contains the right files, and works when it is installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from the source archive, as for a release, and return the wheel's path."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True, capture_output=True
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel and its dependencies into a clean environment, and return the environment's `bin` folder."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "dependencies.pth").write_text("\n".join(dependencies) + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, wheel], check=True)
    return folder / "bin"


def test_metadata_is_fit_for_publishing(wheel):
    """The metadata of the wheel and the source archive is valid, and the README can be rendered."""
    archives = [path for path in wheel.parent.iterdir() if path.suffix in (".whl", ".gz")]
    assert len(archives) == 2
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *archives], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_wheel_holds_all_and_only_what_runs(wheel):
    """The wheel contains both packages with their data files, but no tests, results or examples."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"attnbench", "attnbench_variants"}
    for folder, package in (("harness", "attnbench"), ("variants", "attnbench_variants")):
        tracked = subprocess.run(
            [shutil.which("git"), "ls-files", f"{folder}/{package}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        missing = {path.removeprefix(f"{folder}/") for path in tracked if (ROOT / path).exists()} - set(names)
        assert not missing


def test_installed_wheel_works_from_anywhere(installed, tmp_path):
    """With the installed wheel, suites are listed, a plugin template is written, and a check of a variant passes."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def attnbench(*arguments):
        done = subprocess.run(
            [installed / "attnbench", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, env=clean
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = subprocess.run(
        [installed / "python", "-c", "import attnbench; print(attnbench.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True, env=clean,
    )  # fmt: skip
    assert str(installed.parent) in where.stdout
    assert "quick" in attnbench("list", "suites")
    assert "my_attn.py" in attnbench("new", "my-attn")
    assert attnbench("check", "naive", "--quick", "--only", "needle")


def test_constraints_pin_one_torch_for_every_machine():
    """The pinned torch version has no local suffix such as `+cpu`, so each machine gets the build for its hardware."""
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    assert pins["torch"] == "2.13.0"
    assert not any("+" in version or "@" in version for version in pins.values())


def test_changelog_fragments_have_a_known_kind():
    """Every changelog fragment has a configured kind and is not empty."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        kinds = {kind["directory"] for kind in tomllib.load(file)["tool"]["towncrier"]["type"]}
    for fragment in (ROOT / "changelog.d").glob("*.md"):
        if fragment.name != "README.md":
            assert fragment.name.split(".")[-2] in kinds, fragment.name
            assert fragment.read_text(encoding="utf-8").strip()


def test_container_installs_from_what_it_copies_first(tmp_path):
    """The files that the Containerfile copies before installing attnbench are enough for the build and for `make`."""
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split() for line in lines if line and not line.startswith("#")]
    assert {step[0] for step in steps} == {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "ENV", "CMD"}
    install = steps.index(["RUN", "make", ".venv/installed", "DRIVER=$DRIVER"])
    for *sources, target in (step[1:] for step in steps[:install] if step[0] == "COPY"):
        for source in sources:
            path = tmp_path / target / Path(source).name if target.endswith("/") else tmp_path / target
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, path)
    built = subprocess.run(
        [sys.executable, "-c", "import hatchling.build as build; print(build.build_wheel('out'))"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert built.stdout.startswith("attnbench-")
    made = subprocess.run(
        [shutil.which("make"), "-n", ".venv/installed"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "pip install --quiet --no-compile -c constraints.txt $arguments" in made.stdout, made.stderr
    assert (tmp_path / re.search(r"python -I (\S+) ", made.stdout)[1]).is_file()
    assert steps[-1] == ["CMD", '["make",', '"bench"]']


def test_make_lets_python_cache_bytecode():
    """In the commands of `make`, Python caches compiled modules, even if the environment says that it must not."""
    show = [shutil.which("make"), "--no-print-directory", "--eval=shown: ; @echo [$$PYTHONDONTWRITEBYTECODE]", "shown"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    shown = subprocess.run(show, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
