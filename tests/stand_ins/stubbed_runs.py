"""Fixtures that write plugins and execute runs with stand-in workers."""

import json
import textwrap

import psutil
import pytest

import stub_run
from attnbench import store
from attnbench.isolation import worker_process
from attnbench.machine import doctor
from attnbench.measure_config import MeasureConfig
from attnbench.plan import unsupported
from attnbench.runner import places
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start

PROCESSES = 2
SHORTEST = MeasureConfig(
    precision=0.5, budget_s=0.002, min_samples=2, min_blocks=4, min_time_s=0, warm_up_max_s=0.1, processes=PROCESSES
)


@pytest.fixture
def write_plugin(tmp_path):
    """Return a function that writes a plugin's file and returns its path as a string."""

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


class StubbedRuns:
    """A factory for runs of the stand-in variants alpha, beta and gamma, which misbehave on request."""

    def __init__(self, folder, monkeypatch):
        self.folder, self._patch = folder, monkeypatch
        self.log = folder / "opened"
        unsupported._answers.cache_clear()  # the answers of the stand-in variants differ from test to test
        monkeypatch.setattr(worker_process, "ENTRY", stub_run.WORKER)
        monkeypatch.setattr(worker_process, "PRELOADED", stub_run.PRELOADED)
        monkeypatch.setattr(doctor, "LOAD_SECONDS", 0.01)
        monkeypatch.setattr(places, "available_bytes", lambda: 1 << 40)  # otherwise, a busy machine has few places
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setenv("STUB_LOG", str(self.log))

    def behave(self, **variants):
        """Set how each variant misbehaves. The docstring of stub_worker.py describes the values."""
        self._patch.setenv("STUB", json.dumps(variants))

    def request(self, *variants, seq=(16,), **fields):
        """Return a request for tiny cells, by default for alpha and beta."""
        defaults = {"devices": ["cpu:0"], "protocol": SHORTEST, "results": self.folder / "results", "name": "r"}
        if "suites" not in fields:
            defaults["axes"] = {"heads": [2], "seq": list(seq), "head_dim": [8]}
        return Request(variants=list(variants or ("alpha", "beta")), **{**defaults, **fields})

    def run(self, *variants, limits=None, **fields):
        """Execute a whole run and return its folder and summary."""
        request = self.request(*variants, **fields)
        catalog, plan = plan_of(request)
        run = start(request, catalog, plan)
        return run, execute(run, catalog, plan, limits=limits)

    def opened(self):
        """Return (variant, length, worker process id) for each opened cell, in the order in which they were opened."""
        lines = map(str.split, self.log.open())
        return [(name, int(length), process) for what, name, length, process in lines if what == "open"]

    def workers(self):
        """Return the fork servers and workers of these runs that are still running."""
        marker = ("STUB_LOG", str(self.log))
        return [
            process
            for process in psutil.process_iter(["environ"])
            if marker in (process.info["environ"] or {}).items() and process.status() != psutil.STATUS_ZOMBIE
        ]


@pytest.fixture
def stubbed(tmp_path, monkeypatch):
    """Return a StubbedRuns object, which makes runs with stand-in workers."""
    return StubbedRuns(tmp_path, monkeypatch)


@pytest.fixture
def outcomes():
    """Return a function that returns a run's records by variant and length."""

    def read(run):
        return {(record.variant, record.workload.seq_k): record for record in store.read_run(run).records}

    return read
