"""Fixtures for tests in a real browser, driven by Playwright."""

import dataclasses
import shutil
import warnings

import pytest

import synthetic
from attnbench.report import write_report
from waiting import LONG_S

MISSING = "THE PAGE IS NOT TESTED: no chromium on this machine (apt-get install chromium) or no playwright"


@pytest.fixture(scope="session")
def browser():
    """Start Chromium, or skip the tests with a warning if Chromium or Playwright is missing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        warnings.warn(MISSING, stacklevel=1)
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Write a report on runs from two machines, which together contain every status, and return its page's path."""
    folder = tmp_path_factory.mktemp("browser")
    cells = synthetic.workloads(seqs=(512, 1024, 2048))
    variants = ("naive", "sdpa", "sdpa-flash", "chunked", "xformers", "forgets-a-key", "segfaults", "linear-attention")
    # On this machine, `naive` does not have enough memory for its scores at 2048 tokens.
    small = dataclasses.replace(synthetic.CPU, memory_bytes=1e8)
    synthetic.make_run(folder / "runs", name="cpu", cells=cells, variants=variants, rounds=8, machine=small)
    synthetic.make_run(folder / "runs", name="gpu", cells=cells, variants=variants, rounds=8, machine=synthetic.H200)
    return write_report(folder / "runs", folder / "out")[0]


@pytest.fixture
def visit(browser):
    """Return a function that opens a page in a new browser profile and waits for the page's script.

    The page's `problems` attribute lists console errors and warnings, and `requests` lists the requested URLs.
    """
    contexts = []

    def open_page(path, fragment="", wait=True, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(LONG_S * 1000)
        contexts.append(context)
        page = context.new_page()
        page.problems, page.requests = [], []
        page.on(
            "console",
            lambda message: page.problems.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(f"file://{path}{fragment}")
        if wait:
            page.wait_for_function("document.documentElement.dataset.ready === '1'")
        return page

    yield open_page
    for context in contexts:
        context.close()
