"""Runs and reports share a results folder, whatever its path is called."""

import os
import subprocess
import sys

import pytest

import stub_run
from attnbench import store
from attnbench.cli import main
from attnbench.plugins.loading import load_plugin, named_source
from waiting import wait_until

SHAPE = ["-v", "alpha,beta", "--heads", "2", "--head-dim", "8", "--budget", "0.001", "--precision", "50%"]
ODD_NAMES = ["with spaces", "Übung-注意", 'quote\'s "and" $HOME;', "-leading"]
SUITE = 'name = "mine"\n[[grid]]\nheads = 2\nseq = [16, 24]\nhead_dim = 8\n'
PLUGIN = "import attnbench\n\n@attnbench.hookimpl\ndef attnbench_variants():\n    return []\n"


@pytest.fixture
def attempt(monkeypatch, capfd):
    """Return a function that runs attnbench in this process and returns its exit code and its output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["attnbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out + printed.err

    return run


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="each of the two runs needs a core")
def test_two_runs_and_reports_share_a_results_folder(stubbed, attempt, tmp_path):
    """While two runs store records in one results folder, both can be listed and reported, and both are completed."""
    released, results = tmp_path / "released", tmp_path / "results"
    stubbed.behave(beta={"24": {"open": f"until:{released}"}})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, stub_run.__file__, "run", *SHAPE, "--seq", "16,24", "--results", str(results)]
    names = {"first": "cpu:0", "second": "cpu:1"}
    running = [
        subprocess.Popen([*command, "--name", name, "-d", device], env=environment) for name, device in names.items()
    ]
    try:
        wait_until(lambda: stubbed.log.exists() and stubbed.log.read_text().count("open beta 24 ") == len(names))
        code, listed = attempt("list", "runs", "--results", results)
        assert code == 0
        assert all(name in listed for name in names)
        for name in names:
            assert attempt("report", name, "--results", results)[0] == 0
        assert attempt("report", *names, "--results", results, "--out", tmp_path / "both")[0] == 0
        released.touch()
        assert [process.wait(300) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
    for name in names:
        reading = store.read_run(results / name)
        assert (reading.torn_lines, reading.problems) == (0, [])
        assert store.statuses(results / name) == {"ok": 4}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_paths_may_contain_spaces_and_any_letters(stubbed, attempt, tmp_path, monkeypatch, name):
    """The results folder, the run, a suite file, a plugin file and the home may have spaces and any letters."""
    place = tmp_path / name
    place.mkdir()
    suite, plugin = place / f"{name}.toml", place / f"{name}.py"
    suite.write_text(SUITE, encoding="utf-8")
    plugin.write_text(PLUGIN, encoding="utf-8")
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert load_plugin(named_source(str(plugin))).source.target == str(plugin)
    given = ["-s", suite, "-d", "cpu:0", "--results", place, f"--name={name}"]
    code, output = attempt("run", *SHAPE[:2], *SHAPE[6:], *given)
    assert code == 0, output
    run = place / name
    assert store.statuses(run) == {"ok": 4}
    for arguments in (["run", "--resume", run], ["report", run], ["list", "runs"], ["export", "-o", place / "out.csv"]):
        code, output = attempt(*arguments, "--results", place)
        assert code == 0, output
    assert (run / "report" / "index.html").exists()
