"""Templates for new plugins: the files that are written, and the names that are rejected."""

import ast
import importlib.util
import sys
import tomllib

import pytest

from attnbench import Workload
from attnbench.conformance.gate import Gate
from attnbench.errors import UsageError
from attnbench.plugins.scaffold import new_file, new_package
from attnbench.plugins.variant import contract_violation
from attnbench.tensors.inputs import make_inputs


def load(path, name):
    """Import a file as a module with the given name."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_file_has_a_correct_variant(tmp_path):
    """The unchanged template offers one variant, which passes the gate with and without a causal mask."""
    path = new_file("my-attn", tmp_path)
    assert path == tmp_path / "my_attn.py"
    (variant,) = load(path, "written_file").attnbench_variants()
    assert variant.name == "my-attn"
    assert contract_violation(variant) is None
    for mask in ("none", "causal"):
        for sizes in ({"seq_q": 12}, {"seq_q": 3, "seq_k": 9}, {"seq_q": 9, "seq_k": 3}):
            workload = Workload(heads=4, kv_heads=2, head_dim=8, mask=mask, direction="forward_backward", **sizes)
            inputs = make_inputs(workload, "cpu")
            verdict = Gate(variant, workload, inputs, variant.prepare(workload, inputs), 0).before()
            assert verdict.passed, verdict.reason


def test_the_file_refuses_unsupported_workloads(tmp_path):
    """The unchanged template's variant gives a reason for each mask or field that it does not support."""
    (variant,) = load(new_file("my-attn", tmp_path), "written_file").attnbench_variants()
    for fields in ({"mask": "window:2:0"}, {"mask": "padding"}, {"softcap": 5.0}, {"alibi": True}, {"dropout": 0.1}):
        assert variant.unsupported_reason(Workload(heads=1, seq_q=4, head_dim=2, **fields), "cpu")


def test_in_a_clone_the_file_is_next_to_the_built_in_variants(tmp_path):
    """In a clone of attnbench, the file is written to the folder that holds the built-in variants."""
    (tmp_path / "variants" / "attnbench_variants").mkdir(parents=True)
    assert new_file("my-attn", tmp_path) == tmp_path / "variants" / "attnbench_variants" / "my_attn.py"


def test_the_package_is_complete(tmp_path):
    """The package contains a module, a pyproject.toml with its entry point, a test, a README and a CI file."""
    paths = new_package("Fast.Attn+2", tmp_path / "plugin")
    assert {str(path.relative_to(tmp_path / "plugin")) for path in paths} == {
        ".github/workflows/ci.yml", "README.md", "pyproject.toml", "src/fast_attn_2/__init__.py",
        "tests/test_conformance.py",
    }  # fmt: skip
    project = tomllib.loads((tmp_path / "plugin/pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "attnbench-fast-attn-2"
    assert project["project"]["entry-points"]["attnbench"] == {"fast_attn_2": "fast_attn_2"}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "$" not in text
        if path.suffix == ".py":
            ast.parse(text)
    assert "Fast.Attn+2" in (tmp_path / "plugin/tests/test_conformance.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my attn", "expected letters, digits"),
        ("", "expected letters, digits"),
        ("-attn", "starting with a letter or digit"),
        ("7th", "'7th' is not a valid name of a Python module: try my-7th"),
        ("class", "'class' is not a valid name of a Python module: try my-class"),
        ("torch", "would hide the installed module 'torch': try my-torch"),
        ("json", "would hide the installed module 'json'"),
    ],
)
def test_bad_names_are_refused(tmp_path, name, message):
    """A name that is invalid or would shadow an installed module is rejected, and nothing is written."""
    for write in (new_file, new_package):
        with pytest.raises(UsageError) as refusal:
            write(name, tmp_path / "folder")
        assert message in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    """Writing a template over a file or into a non-empty folder raises a usage error and changes nothing."""
    (tmp_path / "my_attn.py").write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        new_file("my-attn", tmp_path)
    with pytest.raises(UsageError, match="is not empty"):
        new_package("my-attn", tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_folder_that_cant_be_written(tmp_path):
    """If the file can't be written, the error says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be written"):
        new_file("my-attn", tmp_path / "file" / "below")
