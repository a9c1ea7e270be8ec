"""Every code block in the README and the documentation runs without an error.

The blocks of a page run in order, in one folder and with one Python namespace. A comment before a block changes what
happens to it: `<!-- file: NAME -->` writes the block to a file instead of running it, and `<!-- tiny: OPTIONS -->` adds
OPTIONS to each `attnbench run` and `attnbench check` in the block to make these commands quick. Without such a comment,
--dry-run is added to each `attnbench run`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from command_line import attnbench

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTE = re.compile(r"<!-- (?P<kind>file|tiny): ?(?P<value>.*?) ?-->")
SYNTAX_ONLY = ("git", "pip", "podman", "source", "twine")  # not run, because these commands would change the machine
NOT_CODE = ("text", "{image}", "{include}", "{eval-rst}")


def blocks(page):
    """Yield (language, code, note) for each fenced block of a page.

    `note` is the match of the comment before the block, or None.
    """
    note = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            note = NOTE.search(token.content)
        elif token.type == "fence":
            yield token.info, token.content, note
            note = None


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=lambda page: page.stem)
def test_page(page, tmp_path, monkeypatch):
    """All code blocks of the page run in order without an error."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    namespace = {"__name__": page.stem}
    for language, code, note in blocks(page):
        kind, value = (note["kind"], note["value"]) if note else ("", "")
        if kind == "file":
            Path(value).write_text(code, encoding="utf-8")
            compile(code, value, "exec") if value.endswith(".py") else tomllib.loads(code)
        elif language == "python":
            exec(compile(code, str(page), "exec"), namespace)  # noqa: S102 - the code comes from this project's pages
        elif language == "toml":
            tomllib.loads(code)
        elif language == "console":
            for line in code.splitlines():
                run(re.split(r"\s+# ", line)[0], value if kind == "tiny" else None)
        else:
            assert language.split(" ")[0] in NOT_CODE, f"no test runs a block in {language!r}"


def run(line, options):
    """Run a command from a page, and assert that it succeeds.

    `options` is a string that is added to `attnbench run` and `attnbench check`. If it is None, --dry-run is added to
    `attnbench run`.
    """
    words = shlex.split(line)
    if words[0] == "make":
        words = ["make", "--dry-run", "--directory", str(ROOT), *words[1:]]
    elif words[0] in SYNTAX_ONLY:
        words = ["bash", "-n", "-c", line]
    elif words[:2] == ["attnbench", "run"] and "--dry-run" not in words:
        words += shlex.split("--dry-run" if options is None else options)
    elif words[:2] == ["attnbench", "check"]:
        words += shlex.split(options or "")
    assert words[0] in ("make", "bash", "attnbench", "pytest", "pytest-benchmark"), f"no test runs {line!r}"
    if words[0] == "attnbench":
        done = attnbench(*words[1:])
    else:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
