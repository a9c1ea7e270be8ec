"""The files that `attnbench new` writes and the commands that it prints."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import attnbench


def test_the_printed_commands_find_the_new_file(tmp_path):
    """The printed `attnbench run` command plans cells for the new variant."""
    written = attnbench("new", "my-attn", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "my_attn.py").is_file()
    check, run = (line.strip() for line in written.stdout.splitlines()[-2:])
    assert check == "attnbench check my-attn --plugin my_attn.py"
    planned = attnbench(*shlex.split(run)[1:], "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "my-attn" in planned.stdout


def test_the_new_package_can_be_installed_and_is_found(tmp_path):
    """The new package can be installed next to attnbench, and its variant can then be listed, checked and timed."""
    written = attnbench("new", "my-attn", "--package", "plugin", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert "pip install -e plugin" in written.stdout
    environment = fresh_environment(tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", "--python", str(environment)]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", str(tmp_path / "plugin")], check=True
    )

    def there(*arguments):
        return subprocess.run(
            [str(environment), "-m", "attnbench", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    listed = there("list", "plugins")
    assert "attnbench-my-attn 0.1.0" in listed.stdout, listed.stdout + listed.stderr
    checked = there("check", "my-attn", "--quick", "--only", "needle")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "passed" in checked.stdout
    timed = there("run", "-v", "my-attn", "--seq", "16", "--heads", "2", "--head-dim", "8", "--budget", "0.05")
    assert timed.returncode == 0, timed.stdout + timed.stderr


def fresh_environment(folder):
    """Create a virtual environment with access to the installed packages, and return the path of its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    paths = [path for path in sys.path if "site-packages" in path or Path(path, "attnbench").is_dir()]
    (site / "beside.pth").write_text("\n".join(paths) + "\n")
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.mark.parametrize("arguments", [("new", "torch"), ("new", "my attn"), ("new", "my-attn", "--package", ".")])
def test_refusals_are_one_line(tmp_path, arguments):
    """An invalid name or folder leads to exit code 2 and a one-line message, and nothing is written."""
    (tmp_path / "here").write_text("")
    refused = attnbench(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
