"""Settings and fixtures for all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

from attnbench.runner import observer_process
from waiting import LONG_S

pytest_plugins = ["pytester", "hanging", "mounts", "stubbed_runs"]

# Hypothesis generates the same cases in every run. The deadline is disabled, because slow machines would exceed it.
settings.register_profile("attnbench", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("attnbench")

# The files that take longest. They run first, so that no process is still busy with one when the others have finished.
SLOW_FILES = (
    "docs/test_blocks.py",
    "variants/test_triton_flash.py",
    "cluster/test_ray.py",
    "runner/test_interrupt.py",
    "packaging/test_release.py",
    "security/test_hostile_runs.py",
    "study/test_timing.py",
    "examples/test_examples.py",
    "examples/test_notebook.py",
    "docs/test_site.py",
    "packaging/test_typing.py",
    "security/test_large_files.py",
    "report/test_write.py",
    "browser/test_page.py",
)


def pytest_collection_modifyitems(items):
    """Move the tests in SLOW_FILES to the front."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True, scope="session")
def long_limits():
    """Give plugins and observers very long to answer, so that no test depends on the speed of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNBENCH_IMPORT_TIMEOUT", f"{LONG_S:g}")
        for limit in ("IMPORT_TIMEOUT_S", "EVENT_TIMEOUT_S", "LAST_TIMEOUT_S"):
            patch.setattr(observer_process, limit, LONG_S)
        yield


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Use a separate cache for the tests, so that the built-in plugins are described once per session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
