"""Runs the quick suite on every mutant, and writes the tables of docs/conformance.md: checks, traits, kills.

Run from the repository's root: `python tests/mutants/kill_table.py`.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
from pathlib import Path

from attnbench.conformance.suite import DEMANDED, cases, run_case
from attnbench.conformance.traits import TRAITS
from attnbench.conformance.trial import Subject

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


def catching(mutant, only=None):
    """Give the names of demanded checks, MOST at most, that catch a mutant at the quick level.

    Every check's first workload is tried, then, if none has caught the mutant, every check's second, and so on.
    """
    rounds = {}
    for case in cases(mutant, level="quick", only=only or [check.name for check in DEMANDED]):
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
    """Read which checks docs/conformance.md says catch each mutant: name -> check names."""
    text = DOCUMENT.read_text(encoding="utf-8")
    region = text[text.index("<!-- mutants: begin -->") : text.index("<!-- mutants: end -->")]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| ([^|]*) \|$", region, re.MULTILINE)
    return {name: [check.strip() for check in checks.split(",")] for name, checks in rows}


def write_table():
    """Measure the kill table and put it in its place; returns the names of mutants that got past."""
    lines, survivors = [f"| mutant | what is wrong | caught by (up to {MOST} named) |", "|---|---|---|"], []
    for path in mutant_files():
        module, mutant = load(path)
        caught = catching(mutant)
        survivors += [] if caught else [mutant.name]
        lines.append(f"| `{mutant.name}` | {module.__doc__.splitlines()[0].rstrip('.')} | {', '.join(caught)} |")
        print(lines[-1], flush=True)
    killed = f"{len(lines) - 2 - len(survivors)} of {len(lines) - 2} mutants are caught at the quick level."
    write_region("mutants", "\n".join((killed, "", *lines)))
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
