"""Run commands of attnbench in processes that are forked from one that has already imported attnbench."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Importing these modules takes longer than most commands. They import neither a plugin nor torch, so a command starts
# in the same state as in a new process, except that these modules are already imported.
PRELOADED = ["attnbench.cli", "attnbench.cli.output", "attnbench.report.write", "attnbench.runner.resume", "pydantic"]


def attnbench(*arguments, cwd=None, environment=None):
    """Run a command in a process of its own, as a shell would, and return the finished process with its output as text.

    - `cwd`: the folder to run it in; by default the current one
    - `environment`: environment variables in addition to those of this process
    """
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        options = (str(cwd or Path.cwd()), {**os.environ, **(environment or {})}, out.name, err.name)
        child = forks.Process(target=_run, args=(list(map(str, arguments)), *options))
        child.start()
        child.join()
        printed = (file.read().decode("utf-8", "strict") for file in (out, err))
        return subprocess.CompletedProcess(["attnbench", *arguments], child.exitcode, *printed)


def _run(arguments, folder, environment, *outputs):
    """Run a command in this forked process, and exit with the command's exit code."""
    from attnbench.cli import main

    for descriptor, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["attnbench", *arguments]
    main()
