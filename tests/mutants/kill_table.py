"""Run the conformance suite on every mutant, and list the checks that catch each mutant in kill_table.md.

`make kill-table` runs this script. docs/conformance.md includes the table.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import CHECKS, DEMANDED, cases, run_case

HERE = Path(__file__).parent
TABLE = HERE / "kill_table.md"
MAX_CHECKS_NAMED = 3  # the table names at most this many failed checks per mutant, but most mutants fail many more
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # allows mutants to import the `tiled` module


def mutant_files():
    """Return the paths of all mutants."""
    return sorted((HERE / "wrong").glob("*.py"))


def load(path):
    """Import a mutant's file, and return the module and the mutant."""
    specification = importlib.util.spec_from_file_location(f"mutant_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    (mutant,) = module.attnbench_variants()
    return module, mutant


def catching(mutant, level="quick", only=None, device="cpu"):
    """Return the names of at most MAX_CHECKS_NAMED checks that catch a mutant at the given level on a device.

    Only the checks named in `only` are tried; the default is all checks that every variant must pass. Each check first
    runs on its first workload. If no check catches the mutant, each check runs on its second workload, and so on. At
    the `full` level, workloads that also belong to the `quick` level are left out.
    """
    names = only or [check.name for check in DEMANDED]
    done = {case.id for case in cases(mutant, device, "quick", names)} if level == "full" else ()
    rounds = {}
    for case in cases(mutant, device, level, names):
        if case.id not in done:
            rounds.setdefault(case.check.name, []).append(case)
    for column in itertools.zip_longest(*rounds.values()):
        caught = []
        for case in column:
            if case is not None and run_case(Subject(mutant, device), case).status == "failed":
                caught.append(case.check.name)
            if len(caught) == MAX_CHECKS_NAMED:
                break
        if caught:
            return caught
    return []


def read_table():
    """Return the level and the checks that the kill table names for each mutant: {name: (level, checks)}."""
    text = TABLE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| (quick|full) \| ([^|]*) \|$", text, re.MULTILINE)
    return {name: (level, [check.strip() for check in checks.split(",")]) for name, level, checks in rows}


def verdict(path):
    """Return a mutant's name, a summary of its bug, and the level and checks (if any) that catch the mutant.

    The checks that the existing kill table names are tried first. If one of them doesn't catch the mutant, all checks
    are tried.
    """
    module, mutant = load(path)
    level, known = read_table().get(mutant.name, ("quick", []))
    known = [check for check in known if check in CHECKS]
    if not (known and all(catching(mutant, level, only=[check]) for check in known)):
        level = "quick"
        known = catching(mutant, level)
        if not known:
            level, known = "full", catching(mutant, "full")
    return mutant.name, module.__doc__.splitlines()[0].rstrip("."), level, known


def write_table():
    """Run the suite on all mutants, write the kill table, and return the names of mutants that no check catches."""
    lines, survivors, quickly = [], [], 0
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for name, wrong, level, caught in pool.map(verdict, mutant_files()):
            survivors += [] if caught else [name]
            quickly += bool(caught) and level == "quick"
            lines.append(f"| `{name}` | {wrong} | {level} | {', '.join(caught)} |")
            print(lines[-1], flush=True)
    killed = f"{len(lines) - len(survivors)} of {len(lines)} mutants are caught, {quickly} of them at the quick level."
    header = f"| mutant | what is wrong | level | caught by (up to {MAX_CHECKS_NAMED} named) |\n|---|---|---|---|"
    TABLE.write_text("\n".join((killed, "", header, *lines)) + "\n", encoding="utf-8")
    return survivors


if __name__ == "__main__":
    survivors = write_table()
    print("survivors:", ", ".join(survivors) or "none")
    sys.exit(bool(survivors))
