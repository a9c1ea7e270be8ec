"""The documentation builds without warnings, and covers hooks, the public interface, records and checks."""

import dataclasses
import html
import re
import subprocess
import sys
from pathlib import Path

import attnbench
from attnbench import hookspecs
from attnbench.conformance.suite import CHECKS
from attnbench.plugins.loading import HOOKS
from attnbench.record import Record

DOCS = Path(__file__).parents[2] / "docs"


def test_site_builds_strictly(tmp_path):
    """Sphinx builds the site with warnings as errors, so there is no dead link, unknown page or malformed docstring."""
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees", DOCS, tmp_path / "html"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "html" / "cli.html").read_text(encoding="utf-8")
    assert "attnbench run" in reference
    assert "--kv-heads" in reference
    conformance = (tmp_path / "html" / "conformance.html").read_text(encoding="utf-8")
    for name, check in CHECKS.items():
        assert f">{name}<" in conformance
        assert html.escape(check.demands, quote=False) in conformance
    assert "window-one-too-wide" in conformance


def test_every_hook_is_documented():
    """The guide for plugin authors lists each hook in its table and shows it in an example."""
    guide = (DOCS / "plugins.md").read_text(encoding="utf-8")
    for hook in HOOKS:
        assert getattr(hookspecs, hook).__doc__
        assert f"| `{hook}(" in guide
        assert f"def {hook}(" in guide


def test_every_public_name_is_documented():
    """The page on the Python interface documents every name in `attnbench.__all__`, and no others."""
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    documented = {name.rpartition(".")[2] for name in re.findall(r"^\.\. auto\w+:: (\S+)", page, flags=re.MULTILINE)}
    assert documented == set(attnbench.__all__)


def test_every_field_of_a_record_is_documented():
    """The page on records explains every field of a record, and no others."""
    page = (DOCS / "records.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert explained == sorted(set(explained), key=explained.index)
    assert set(explained) == {field.name for field in dataclasses.fields(Record)}
