"""A fixture that runs scripts in a process with a file system of its own."""

import os
import subprocess
import sys

import pytest

MOUNTED = """
import os, subprocess, sys
folder, options, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
os.execvp(command[0], command)
"""
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", MOUNTED]


@pytest.fixture
def mounted(tmp_path):
    """Return a function that runs a Python script in a process that sees a small file system, and the process's result.

    The function takes the options of the tmpfs and the script, whose argument is the folder of the file system. The
    file system vanishes when the process ends. Skips the test if this user can't mount a file system.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(options, *command):
        arguments = [*NAMESPACE, str(folder), options, *command]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)

    try:
        refused = run("size=64k", "true").returncode != 0
    except FileNotFoundError:  # this system has no `unshare`
        refused = True
    if refused:
        pytest.skip("THIS USER CAN'T MOUNT A FILE SYSTEM, so only injected errors are tested, and no real ones")
    return lambda options, script: run(options, sys.executable, "-c", script, str(folder))
