"""Importing `attnbench.report` does not import pandas, but all public functions are available."""

import subprocess
import sys

import pytest

import attnbench.report


def test_the_public_functions_can_be_imported():
    """`export`, `headline` and `write_report` are functions, and FORMATS contains the names of the formats."""
    from attnbench.report import FORMATS, export, headline, write_report

    assert "csv" in FORMATS
    assert all(callable(function) for function in (export, headline, write_report))


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    """A misspelt name raises an AttributeError that lists the package's public names."""
    with pytest.raises(AttributeError, match="'wirte_report': it has FORMATS, export, headline, write_report"):
        _ = attnbench.report.wirte_report


def test_the_process_that_draws_figures_loads_no_pandas():
    """`python -m attnbench.report.matplotlib_figures` does not import pandas, so that it starts quickly."""
    program = (
        "import runpy, sys\n"
        "runpy.run_module('attnbench.report.matplotlib_figures', run_name='__main__')\n"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], input="[]", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
