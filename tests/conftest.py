"""Settings and fixtures for all tests."""

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "hanging", "mounts", "stubbed_runs"]

# Hypothesis generates the same cases in every run. The deadline is disabled, because slow machines would exceed it.
settings.register_profile("attnbench", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("attnbench")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Use a separate cache for the tests, so that the built-in plugins are described once per session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
