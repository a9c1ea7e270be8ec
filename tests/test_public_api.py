"""The public API, pinned: what plugins and notebooks may rely on."""

import subprocess
import sys
from importlib.metadata import entry_points, files, metadata

import pytest

import attnbench


def test_all_is_pinned():
    """The public names are these; adding one is a decision, removing one breaks plugins."""
    expected = "Inputs Mask Run Variant Workload attention best hookimpl load run variant"
    assert sorted(attnbench.__all__) == expected.split()


@pytest.mark.parametrize("name", attnbench.__all__)
def test_public_names_are_there_and_documented(name):
    """Each public name can be imported and says what it is."""
    value = getattr(attnbench, name)
    assert name == "hookimpl" or value.__doc__


def test_unknown_name_lists_the_known():
    """A wrong attribute is an AttributeError that lists what there is."""
    with pytest.raises(AttributeError, match=r"'Workloads'.*Workload"):
        attnbench.Workloads  # noqa: B018 - the access is what is tested


def test_import_is_light():
    """`import attnbench` and a workload's counting need neither torch nor pandas."""
    program = (
        "import sys, attnbench\n"
        "attnbench.Workload(heads=1, seq_q=4, head_dim=2).flops()\n"
        "print({'torch', 'pandas', 'numpy', 'matplotlib', 'typer'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_distribution_says_what_the_code_says():
    """Installed metadata and the module agree on the version, and the command and built-in plugin are declared."""
    assert metadata("attnbench")["Version"] == attnbench.__version__
    (command,) = entry_points(group="console_scripts", name="attnbench")
    (plugin,) = entry_points(group="attnbench", name="builtin")
    assert command.value == "attnbench.cli:main"
    assert plugin.value == "attnbench_variants"
    assert files("attnbench")
