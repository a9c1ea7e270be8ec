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


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keep the tests' descriptions of plugins apart from the user's; the built-in ones are asked once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
