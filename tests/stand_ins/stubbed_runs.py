"""Plugins made on the spot, and sweeps whose workers answer at once."""

import json
import textwrap

import psutil
import pytest

import stub_run
from attnbench import store
from attnbench.isolation import process
from attnbench.machine import doctor
from attnbench.measure_config import MeasureConfig
from attnbench.runner.request import Request, plan_of
from attnbench.runner.run import execute, start

AT_ONCE = MeasureConfig(precision=0.5, budget_s=0.001, min_samples=2, min_blocks=2, min_time_s=0, warm_up_max_s=0.1)


@pytest.fixture
def write_plugin(tmp_path):
    """Write a plugin's file of the given text and return its path as a text."""

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


class Stubbed:
    """Sweeps of the stand-in variants alpha, beta and gamma, told how to misbehave."""

    def __init__(self, folder, monkeypatch):
        self.folder, self._patch = folder, monkeypatch
        self.log = folder / "opened"
        monkeypatch.setattr(process, "ENTRY", stub_run.WORKER)
        monkeypatch.setattr(process, "IMPORTED", stub_run.IMPORTED)
        monkeypatch.setattr(doctor, "LOAD_SECONDS", 0.01)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setenv("STUB_LOG", str(self.log))

    def behave(self, **variants):
        """Say what each variant does; see the stand-in worker."""
        self._patch.setenv("STUB", json.dumps(variants))

    def request(self, *variants, seq=(16,), **fields):
        """Make a request for tiny cells."""
        defaults = {"devices": ["cpu:0"], "protocol": AT_ONCE, "results": self.folder / "results", "name": "r"}
        if "suites" not in fields:
            defaults["axes"] = {"heads": [2], "seq": list(seq), "head_dim": [8]}
        return Request(variants=list(variants or ("alpha", "beta")), **{**defaults, **fields})

    def run(self, *variants, limits=None, **fields):
        """Run from start to end; give the run's folder and its summary."""
        request = self.request(*variants, **fields)
        catalog, plan = plan_of(request)
        run = start(request, catalog, plan)
        return run, execute(run, catalog, plan, limits=limits)

    def opened(self):
        """Give (variant, length, worker's process) of each cell that a worker opened, in order."""
        told = map(str.split, self.log.open())
        return [(name, int(length), process) for what, name, length, process in told if what == "open"]

    def workers(self):
        """List the fork servers and workers of these sweeps that are there."""
        told_to = ("STUB_LOG", str(self.log))
        return [
            process
            for process in psutil.process_iter(["environ"])
            if told_to in (process.info["environ"] or {}).items() and process.status() != psutil.STATUS_ZOMBIE
        ]


@pytest.fixture
def stubbed(tmp_path, monkeypatch):
    """Sweeps whose workers answer at once."""
    return Stubbed(tmp_path, monkeypatch)


@pytest.fixture
def outcomes():
    """Give the records of a run by variant and length, the A/A control left out."""

    def read(run):
        return {
            (record.variant, record.workload.seq_k): record
            for record in store.read_run(run).records
            if not record.control
        }

    return read
