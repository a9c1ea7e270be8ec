"""The plugin catalog: plugins that load, plugins that fail to load, and cached descriptions."""

import re
import shutil
import subprocess
import sys

import pytest

from attnbench.errors import PluginError, UsageError
from attnbench.plan import catalog as catalog_module
from attnbench.plan.catalog import read_catalog, refuse_broken
from hanging import HANG
from waiting import LONG_S

GOOD = """
    from attnbench import hookimpl, variant

    @variant("{name}")
    def attention(query, key, value, workload):
        \"\"\"A test variant.\"\"\"
        return value

    @hookimpl
    def attnbench_variants():
        return [attention]
"""


def entry_of(catalog, name):
    """Return a plugin's entry in the catalog."""
    return next(entry for entry in catalog.plugins if entry.source.name == name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('boom')", r"import failed: RuntimeError: boom \(.*broken.py:1\)"),
        ("import sys; sys.exit(3)", "import failed: SystemExit: 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "import ended the process: killed by SIGSEGV"),
        ("import os; os._exit(0)", "import ended the process: the process exited with code 0"),
        (HANG, f"import ended the process: no reply within {LONG_S:g} s"),
        ("x = 1", "no hook found: expected one of attnbench_variants"),
        ("def attnbench_variants(): return []", "attnbench_variants lacks the @hookimpl decorator"),
        (
            "from attnbench import hookimpl\n@hookimpl\ndef attnbench_variant(): return []",
            "unknown hook 'attnbench_variant': did you mean 'attnbench_variants'",
        ),
        (
            "from attnbench import hookimpl\n@hookimpl\ndef attnbench_variants(more): return []",
            "hook with a wrong signature",
        ),
        (
            "from attnbench import hookimpl\n@hookimpl\ndef attnbench_cell_started(cell=None): return []",
            "arguments with defaults are not passed",
        ),
        (
            "from attnbench import hookimpl\n@hookimpl\ndef attnbench_variants(): return 1 / 0",
            "attnbench_variants raised ZeroDivisionError",
        ),
        (
            "from attnbench import hookimpl\n@hookimpl\ndef attnbench_variants(): return [print]",
            "is not a Variant: subclass attnbench.Variant",
        ),
        (
            "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
            r"import failed: Odd: \(no message: its __str__ raised ValueError\)",
        ),
    ],
)
@pytest.mark.usefixtures("simulated_deadlines")
def test_a_broken_plugin_is_listed_with_its_reason_and_others_load(write_plugin, text, reason):
    """If importing a plugin or calling its hooks fails or crashes, its entry says why, and the other plugins load."""
    good = write_plugin("good", GOOD.format(name="stand-in"))
    catalog = read_catalog([write_plugin("broken", text), good])
    entry = entry_of(catalog, "broken")
    assert entry.reason is not None
    assert re.search(reason, entry.reason), entry.reason
    assert "stand-in" in catalog.variants
    assert "naive" in catalog.variants


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("import no_such_library", "install the package"),
        ("import os; os._exit(0)", "move the import that ends the process into prepare"),
        ("x = 1", "add a function attnbench_variants"),
        ("raise RuntimeError('No module named: boom')", "fix the problem that the reason names"),
        (GOOD.format(name="sdpa"), "rename one of the two"),
    ],
)
def test_a_broken_plugin_has_a_remedy_for_the_kind_of_its_error(write_plugin, text, remedy):
    """The remedy for a broken plugin depends on the kind of error, not on the wording of the reason."""
    path = write_plugin("broken", text)
    catalog = read_catalog([path])
    assert entry_of(catalog, "broken").remedy.startswith(remedy)
    with pytest.raises(PluginError, match=f"did not load: .*; next: {remedy}"):
        refuse_broken(catalog, [path])


def test_a_name_given_twice_names_both_sources(write_plugin):
    """If two plugins offer variants with the same name, the second variant is rejected. The reason names both files."""
    first, second = write_plugin("first", GOOD.format(name="twin")), write_plugin("second", GOOD.format(name="twin"))
    catalog = read_catalog([first, second])
    assert entry_of(catalog, "first").reason is None
    reason = entry_of(catalog, "second").reason
    assert first in reason
    assert second in reason


def test_each_module_of_a_plugin_is_loaded_separately(tmp_path, monkeypatch):
    """If a package lists its modules, a broken module has its own entry, and the other modules load."""
    package = tmp_path / "some_variants"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from attnbench import hookimpl\n"
        "@hookimpl\n"
        "def attnbench_modules(): return [f'{__name__}.fine', f'{__name__}.broken']\n"
    )
    (package / "broken.py").write_text("import missing_library\n")
    (package / "fine.py").write_text(
        "from attnbench import hookimpl, variant\n"
        "@variant('fine')\n"
        "def fine(query, key, value, workload): return value\n"
        "@hookimpl\n"
        "def attnbench_variants(): return [fine]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    catalog = read_catalog(["some_variants"])
    assert entry_of(catalog, "some_variants/fine").variants[0].name == "fine"
    assert "missing_library" in entry_of(catalog, "some_variants/broken").reason


def test_strict_raises_for_a_broken_plugin(write_plugin):
    """With `strict`, reading a plugin that fails to load raises a PluginError that names the plugin."""
    with pytest.raises(PluginError, match="plugin broken did not load: import failed: RuntimeError: boom"):
        read_catalog([write_plugin("broken", "raise RuntimeError('boom')")], strict=True)


@pytest.mark.parametrize("name", ["nowhere.py", "some/where.py", "no_such_module", "not-a-name"])
def test_a_plugin_that_does_not_exist_is_a_usage_error(name):
    """Naming a plugin that does not exist raises a usage error that names the plugin."""
    with pytest.raises(UsageError, match=name):
        read_catalog([name])


def test_a_description_is_cached_until_the_source_changes(write_plugin, monkeypatch):
    """The description of a plugin is cached until the plugin is edited."""
    path = write_plugin("mine", GOOD.format(name="mine"))
    read_catalog([path])
    with monkeypatch.context() as patched:
        patched.setattr(catalog_module, "isolated_query", None)
        assert "mine" in read_catalog([path]).variants
    write_plugin("mine", GOOD.format(name="mine-again"))
    assert "mine-again" in read_catalog([path]).variants


@pytest.mark.parametrize("module", catalog_module.CONTRACT_MODULES, ids=lambda module: module.__name__)
def test_an_edit_to_the_contract_makes_cached_descriptions_stale(write_plugin, tmp_path, monkeypatch, module):
    """If the source of the plugin contract changes, cached descriptions are no longer used."""
    path, copy = write_plugin("mine", GOOD.format(name="mine")), tmp_path / "contract.py"
    shutil.copy(module.__file__, copy)
    monkeypatch.setattr(module, "__file__", str(copy))
    described = []
    real = catalog_module.isolated_query

    def counted(operation, *arguments, **fields):
        described.append(operation)
        return real(operation, *arguments, **fields)

    monkeypatch.setattr(catalog_module, "isolated_query", counted)
    read_catalog([path])
    read_catalog([path])
    assert len(described) == 1
    copy.write_text(copy.read_text() + "# edited\n")
    read_catalog([path])
    assert len(described) == 2


def test_a_plugin_offers_suites(write_plugin):
    """A suite that a plugin offers is found by its name."""
    text = """
        from attnbench import hookimpl

        @hookimpl
        def attnbench_suites():
            return [{"name": "mine", "grid": [{"heads": 2, "seq": [8, 16], "head_dim": 4}]}]
    """
    assert len(read_catalog([write_plugin("suited", text)]).suites(["mine"])[0].workloads) == 2


def test_the_supervisor_imports_neither_torch_nor_a_plugin(write_plugin):
    """Listing plugins imports neither torch nor a plugin into the process that lists them."""
    path = write_plugin("good", GOOD.format(name="stand-in"))
    script = (
        "import sys\n"
        "from attnbench.cli import app\n"
        "from attnbench.runner import run\n"
        "from attnbench.plan.catalog import read_catalog\n"
        f"assert 'stand-in' in read_catalog([{path!r}]).variants\n"
        "bad = [name for name in sys.modules if name.split('.')[0] in ('torch', 'attnbench_variants')]\n"
        "bad += [name for name in sys.modules if name.startswith('attnbench_plugin')]\n"
        "sys.exit(', '.join(bad) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
