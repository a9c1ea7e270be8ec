"""Plugins made on the spot."""

import textwrap

import pytest


@pytest.fixture
def write_plugin(tmp_path):
    """Write a plugin's file of the given text and return its path as a text."""

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep each test's descriptions of plugins to itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
