"""Plugin hooks, which follow pluggy's rules for wrappers, order, arguments and methods."""

import re
import textwrap

import pytest

from attnbench.errors import PluginError
from attnbench.plugins.loading import PluginSource, call_hook, load_plugin, named_source, observes

VARIANTS = """
    from attnbench import hookimpl, variant

    @variant("mine")
    def mine(query, key, value, workload):
        return query

    @variant("other")
    def other(query, key, value, workload):
        return query
"""


@pytest.fixture
def loaded(tmp_path):
    """Return a function that loads a plugin from the given source text."""

    def load(text):
        path = tmp_path / "plugin.py"
        path.write_text(textwrap.dedent(VARIANTS) + textwrap.dedent(text))
        return load_plugin(named_source(str(path)))

    return load


def names(plugin):
    """Return the names of a plugin's variants, in order."""
    return [variant.name for variant in plugin.variants]


@pytest.mark.parametrize("marker", ["@hookimpl(wrapper=True)", "@hookimpl(hookwrapper=True)"])
def test_a_wrapper_runs_around_the_implementation(loaded, marker):
    """Wrappers of both pluggy styles run around a hook call and can change its results."""
    received = "results = yield" if "(wrapper" in marker else "outcome = yield; results = outcome.get_result()"
    returned = "return changed" if "(wrapper" in marker else "outcome.force_result(changed)"
    text = f"""
    @hookimpl
    def attnbench_variants():
        return [mine]

    {marker.replace("True", 'True, specname="attnbench_variants"')}
    def around():
        {received}
        changed = [*results, [other]]
        {returned}
    """
    assert names(loaded(text)) == ["mine", "other"]


def test_tryfirst_decides_the_order(loaded):
    """A hook implementation with `tryfirst` is called first, even if it is defined last."""
    text = """
    @hookimpl
    def attnbench_variants():
        return [mine]

    @hookimpl(tryfirst=True, specname="attnbench_variants")
    def early():
        return [other]
    """
    assert names(loaded(text)) == ["other", "mine"]


def test_a_plugin_may_be_an_object_with_methods(tmp_path, monkeypatch):
    """A plugin can be an object. Its methods are called with only the arguments that they name."""
    text = """
    class Plugin:
        calls = []

        @hookimpl
        def attnbench_variants(self):
            return [mine]

        @hookimpl
        def attnbench_record_stored(self):
            self.calls.append("stored")

        @hookimpl
        def attnbench_run_ended(self, summary):
            self.calls.append(summary)

    plugin = Plugin()
    """
    (tmp_path / "holds_a_plugin.py").write_text(textwrap.dedent(VARIANTS) + textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    plugin = load_plugin(PluginSource("object", "entry point", "holds_a_plugin:plugin"))
    assert names(plugin) == ["mine"]
    call_hook(plugin.hooks, "attnbench_record_stored", {"status": "ok"})
    call_hook(plugin.hooks, "attnbench_run_ended", {"ok": 1})
    assert plugin.module.calls == ["stored", {"ok": 1}]
    assert observes(plugin, "attnbench_record_stored")
    assert not observes(plugin, "attnbench_cell_started")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def attnbench_variants():\n    return [mine]", "attnbench_variants lacks the @hookimpl decorator"),
        (
            "import functools\nattnbench_variants = hookimpl(functools.partial(list, [mine]))",
            "attnbench_variants is an object of type partial: expected a function or method",
        ),
        ("@hookimpl\ndef attnbench_variants():\n    pass", "attnbench_variants returned None: expected a list"),
        ("@hookimpl\ndef attnbench_variants(new=1):\n    return []", "attnbench_variants: arguments with defaults"),
        (
            "@hookimpl\ndef attnbench_run_ended(summary, new=1):\n    pass",
            "attnbench_run_ended: arguments with defaults",
        ),
        ("@hookimpl\ndef attnbench_run_ended(wrong):\n    pass", "hook with a wrong signature"),
        ("@hookimpl\ndef attnbench_variants():\n    return 3 // 0", "attnbench_variants raised ZeroDivisionError"),
        ("@hookimpl\ndef attnbench_variants():\n    return 3", "attnbench_variants raised TypeError"),
        ("@hookimpl\ndef attnbench_variants():\n    raise SystemExit(1)", "attnbench_variants raised SystemExit"),
    ],
)
def test_unusable_hooks_are_refused_with_the_reason(loaded, text, reason):
    """A plugin does not load if pluggy can't find or call a hook, or if a hook raises or does not return a list."""
    with pytest.raises(PluginError, match=re.escape(reason)):
        loaded("\n" + text)
