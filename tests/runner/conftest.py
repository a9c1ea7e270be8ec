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
