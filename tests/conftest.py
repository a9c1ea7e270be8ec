"""What all tests share."""

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "stubbed_runs"]

# Drawn cases are the same on every machine and in every run; a slow machine fails no test.
settings.register_profile("attnbench", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("attnbench")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keep the tests' descriptions of plugins apart from the user's; the built-in ones are asked once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
