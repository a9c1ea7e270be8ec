"""Observers receive a run's events, and their failures don't affect the run."""

import threading
from contextlib import ExitStack

import pytest

from attnbench.plan.catalog import Catalog, PluginEntry
from attnbench.plugins.loading import named_source
from attnbench.runner.observer_process import Observers
from hanging import HANG

NOTING = """
from attnbench import hookimpl

@hookimpl
def attnbench_record_stored(record):
    with open({events!r}, "a") as file:
        file.write(record["variant"] + "\\n")
"""


@pytest.fixture
def observers(tmp_path):
    """Yield a function that starts observers from plugin source code, and stop the observers after the test."""
    opened = ExitStack()

    def make(*texts, observes=("record_stored",)):
        entries = []
        for number, text in enumerate(texts):
            path = tmp_path / f"observer_{number}.py"
            path.write_text(text, encoding="utf-8")
            entries.append(PluginEntry(named_source(str(path)), None, observes=tuple(observes)))
        return opened.enter_context(Observers(Catalog(tuple(entries)), tmp_path / "observers.log"))

    with opened:
        yield make


def test_events_arrive_in_order(observers, tmp_path):
    """An observer receives only the events that it observes, in the order in which they were sent."""
    running = observers(NOTING.format(events=str(tmp_path / "events")))
    for variant in ("naive", "sdpa"):
        running.notify("cell_started", {"variant": variant})
        running.notify("record_stored", {"variant": variant})
    assert (tmp_path / "events").read_text() == "naive\nsdpa\n"
    assert running.problems == []


def test_an_observer_that_raises_does_not_affect_the_others(observers, tmp_path):
    """Each exception is reported with the plugin's name, and all observers continue to receive events."""
    raising = NOTING.format(events="/nowhere/at/all")
    running = observers(raising, NOTING.format(events=str(tmp_path / "events")))
    for variant in ("naive", "sdpa"):
        running.notify("record_stored", {"variant": variant})
    assert (tmp_path / "events").read_text() == "naive\nsdpa\n"
    assert len(running.problems) == 2
    assert all("observer_0" in problem and "/nowhere/at/all" in problem for problem in running.problems)


@pytest.mark.parametrize(("fault", "word"), [("import os; os._exit(3)", "code 3"), (HANG, "no reply within")])
@pytest.mark.usefixtures("simulated_deadlines")
def test_an_observer_that_exits_or_hangs_ends_observing(observers, fault, word):
    """If an observer exits or hangs, this is reported once, and no observer receives further events."""
    text = f"from attnbench import hookimpl\n@hookimpl\ndef attnbench_record_stored(record):\n    {fault}\n"
    running = observers(text)
    for _ in range(3):
        running.notify("record_stored", {})
    (problem,) = running.problems
    assert problem.startswith("observer_0: the observers' process was lost during record_stored")
    assert word in problem


def test_without_observers_nothing_is_started(observers):
    """No process is started if no plugin observes anything."""
    running = observers("", observes=())
    running.notify("record_stored", {})
    assert running._worker is None


def test_observers_outlive_the_thread_that_notified_them_first(observers, tmp_path):
    """Observers still receive events after the thread that sent the first event has ended."""
    running = observers(NOTING.format(events=str(tmp_path / "events")))
    for variant in ("naive", "sdpa"):
        thread = threading.Thread(target=running.notify, args=("record_stored", {"variant": variant}))
        thread.start()
        thread.join()
    assert (tmp_path / "events").read_text() == "naive\nsdpa\n"
    assert running.problems == []


WRAPPING = """
from attnbench import hookimpl

@hookimpl
def attnbench_record_stored():
    with open({events!r}, "a") as file:
        file.write("stored\\n")

@hookimpl(wrapper=True, specname="attnbench_record_stored")
def around(record):
    with open({events!r}, "a") as file:
        file.write("before " + record["variant"] + "\\n")
    result = yield
    with open({events!r}, "a") as file:
        file.write("after\\n")
    return result
"""


def test_a_hook_wrapper_runs_around_an_observer(observers, tmp_path):
    """A hook wrapper runs before and after an implementation, even if the implementation omits the hook's argument."""
    running = observers(WRAPPING.format(events=str(tmp_path / "events")))
    running.notify("record_stored", {"variant": "naive"})
    assert (tmp_path / "events").read_text() == "before naive\nstored\nafter\n"
    assert running.problems == []


def test_an_observer_that_raises_system_exit_is_reported(observers, tmp_path):
    """A SystemExit from one observer is reported with the plugin's name, and the other observers are still called."""
    text = "from attnbench import hookimpl\n@hookimpl\ndef attnbench_record_stored():\n    raise SystemExit(3)\n"
    running = observers(text, NOTING.format(events=str(tmp_path / "events")))
    running.notify("record_stored", {"variant": "naive"})
    assert running.problems == ["observer_0: attnbench_record_stored raised SystemExit: 3"]
    assert (tmp_path / "events").read_text() == "naive\n"
