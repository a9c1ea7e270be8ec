"""Runs the suite on every mutant, and writes the tables of docs/conformance.md: checks, traits, kills.

`make docs` does it; by hand, from the repository's root: `python tests/mutants/kill_table.py`.
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

from attnbench.conformance.checks import TRAITS
from attnbench.conformance.subject import Subject
from attnbench.conformance.suite import CHECKS, DEMANDED, cases, run_case

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "conformance.md"
MOST = 3  # checks named for a mutant: most mutants fail many more
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # mutants import tiled


def mutant_files():
    """List the mutants' files."""
    return sorted((HERE / "wrong").glob("*.py"))


def load(path):
    """Give the module of a mutant's file and the variant that it offers."""
    specification = importlib.util.spec_from_file_location(f"mutant_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    (mutant,) = module.attnbench_variants()
    return module, mutant


def catching(mutant, level="quick", only=None):
    """Give the names of demanded checks, MOST at most, that catch a mutant at a level.

    Every check's first workload is tried, then, if none has caught the mutant, every check's second, and so on. At the
    level `full`, what belongs to `quick` is left out.
    """
    names = only or [check.name for check in DEMANDED]
    done = {case.id for case in cases(mutant, level="quick", only=names)} if level == "full" else ()
    rounds = {}
    for case in cases(mutant, level=level, only=names):
        if case.id not in done:
            rounds.setdefault(case.check.name, []).append(case)
    for column in itertools.zip_longest(*rounds.values()):
        caught = []
        for case in column:
            if case is not None and run_case(Subject(mutant), case).status == "failed":
                caught.append(case.check.name)
            if len(caught) == MOST:
                break
        if caught:
            return caught
    return []


def read_table():
    """Read at which level, and by which checks, docs/conformance.md says each mutant is caught: name -> both."""
    text = DOCUMENT.read_text(encoding="utf-8")
    region = text[text.index("<!-- mutants: begin -->") : text.index("<!-- mutants: end -->")]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| (quick|full) \| ([^|]*) \|$", region, re.MULTILINE)
    return {name: (level, [check.strip() for check in checks.split(",")]) for name, level, checks in rows}


def verdict(path):
    """Give a mutant's name, what is wrong with it, and the level and checks that catch it: none if it gets past.

    The checks that the document names are tried first; only where one of them fails to catch it is all tried anew.
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
    """Measure the kill table and put it in its place; returns the names of mutants that got past."""
    lines, survivors, quickly = [], [], 0
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for name, wrong, level, caught in pool.map(verdict, mutant_files()):
            survivors += [] if caught else [name]
            quickly += bool(caught) and level == "quick"
            lines.append(f"| `{name}` | {wrong} | {level} | {', '.join(caught)} |")
            print(lines[-1], flush=True)
    killed = f"{len(lines) - len(survivors)} of {len(lines)} mutants are caught, {quickly} of them at the quick level."
    header = f"| mutant | what is wrong | level | caught by (up to {MOST} named) |\n|---|---|---|---|"
    write_region("mutants", "\n".join((killed, "", header, *lines)))
    return survivors


def write_checks():
    """Put the catalogue's checks and traits in their places."""
    for region, table in (("checks", DEMANDED), ("traits", TRAITS)):
        rows = (f"| `{check.name}` | {check.demands} | {check.usual_bug} |" for check in table)
        write_region(region, "\n".join(("| check | demands | usual bug |", "|---|---|---|", *rows)))


def write_region(name, content):
    """Replace what stands between a region's two comments."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text[: text.index(begin)], text[text.index(end) + len(end) :]
    DOCUMENT.write_text(f"{before}{begin}\n{content}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_checks()
    survivors = write_table()
    print("survivors:", ", ".join(survivors) or "none")
    sys.exit(bool(survivors))
