"""The public API on which plugins and notebooks rely."""

import importlib
import importlib.util
import subprocess
import sys
from importlib.metadata import entry_points, files, metadata

import pytest

import attnbench


def test_all_is_pinned():
    """`attnbench.__all__` contains exactly the pinned names, because removing one would break plugins."""
    expected = "Inputs Mask Run Variant Workload attention best hookimpl load run variant"
    assert sorted(attnbench.__all__) == expected.split()


@pytest.mark.parametrize("name", attnbench.__all__)
def test_public_names_exist_and_are_documented(name):
    """Each public name can be imported and has a docstring."""
    value = getattr(attnbench, name)
    assert name == "hookimpl" or value.__doc__


def test_unknown_name_lists_the_known():
    """An unknown attribute raises an AttributeError that lists the public names."""
    with pytest.raises(AttributeError, match=r"'Workloads'.*Workload"):
        attnbench.Workloads  # noqa: B018 - the test is about the attribute access


def test_import_is_light():
    """Importing attnbench and counting a workload's FLOPs loads no large library, such as torch or pandas."""
    program = (
        "import sys, attnbench\n"
        "attnbench.Workload(heads=1, seq_q=4, head_dim=2).flops()\n"
        "print({'torch', 'pandas', 'numpy', 'matplotlib', 'typer'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_distribution_metadata_matches_the_code():
    """The installed metadata contains the package's version, the command and the built-in plugin."""
    assert metadata("attnbench")["Version"] == attnbench.__version__
    (command,) = entry_points(group="console_scripts", name="attnbench")
    (plugin,) = entry_points(group="attnbench", name="builtin")
    assert command.value == "attnbench.cli:main"
    assert plugin.value == "attnbench_variants"
    assert files("attnbench")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("attnbench.conformance.suite", "checks"),
        ("attnbench.record", "Record"),
        ("attnbench.reference", "attention"),
        ("attnbench.benchmarks", "__doc__"),
        ("attnbench.observers.mlflow", "attnbench_record_stored"),
        ("attnbench.observers.wandb", "attnbench_record_stored"),
    ],
)
def test_modules_that_others_import_keep_their_names(module, name):
    """Modules that plugins, trackers and the documentation refer to can be imported by these names."""
    if module.startswith("attnbench.observers"):
        pytest.importorskip(module.rpartition(".")[2])
    assert getattr(importlib.import_module(module), name)


def test_no_submodule_hides_a_public_name():
    """No submodule shares its name with a public object, because importing the submodule would replace the object."""
    assert not [name for name in attnbench.__all__ if importlib.util.find_spec(f"attnbench.{name}")]
