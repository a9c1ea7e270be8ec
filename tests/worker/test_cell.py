"""Sessions that measure the cells of one variant."""

import subprocess
import sys

import pytest

from attnbench import Workload, store
from attnbench.errors import PluginError
from attnbench.measure_config import MeasureConfig
from attnbench.messages import CloseReply, CloseRequest, OpenReply, OpenRequest
from attnbench.plugins.loading import named_source, source_sha256
from attnbench.runner.request import Request, plan_of
from attnbench.runner.resume import resumed
from attnbench.runner.run import execute, start
from attnbench.worker.cell import Session

GRADIENT_IN_A_NEW_PROCESS = """
import sys
import attnbench.worker.cell, torch
known = set(sys.modules)
leaf = torch.ones(2, requires_grad=True)
torch.autograd.grad(2 * leaf, leaf, torch.ones(2))
print(sorted(set(sys.modules) - known))
"""


def test_the_fork_server_imports_what_the_first_backward_pass_needs():
    """The first call of torch.autograd.grad imports nothing, because the module that is preloaded already did."""
    run = [sys.executable, "-c", GRADIENT_IN_A_NEW_PROCESS]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"


CHANGES_ITSELF = """
import attnbench, pathlib
from torch.nn.functional import scaled_dot_product_attention

MOMENT = {moment!r}

def change(moment):
    if moment == MOMENT:
        file = pathlib.Path(__file__)
        file.write_text(file.read_text() + "# changed\\n")

change("import")

class Changing(attnbench.Variant):
    "A variant whose file changes while it is measured."

    name, layout = "changing", "BHSD"

    def prepare_function(self, workload, inputs):
        change("prepare")

        def attend(query, key, value):
            change("call")
            return scaled_dot_product_attention(query, key, value)

        return attend

@attnbench.hookimpl
def attnbench_variants():
    return [Changing()]
"""
CONFIG = MeasureConfig(warm_up_max_s=0.01, warm_up_min_s=0.0)
OPENING = OpenRequest(Workload(heads=1, seq_q=8, head_dim=8), CONFIG)


@pytest.mark.parametrize("moment", ["import", "prepare", "call", "never"])
def test_a_plugin_that_changes_its_files_fails_its_cells(write_plugin, moment):
    """If a plugin's files change when it is imported, prepared or called, none of its cells succeeds."""
    source = named_source(write_plugin("changing", CHANGES_ITSELF.format(moment=moment)))
    planned = source_sha256(source)

    def measure():
        session = Session(lambda phase: None, source, "changing", "cpu", planned)
        assert isinstance(session.operations[OpenRequest](OPENING), OpenReply)
        return session.operations[CloseRequest](CloseRequest())

    if moment == "never":
        assert isinstance(measure(), CloseReply)
        return
    for _ in range(2):  # the second worker, too, must not measure the changed code under the old hash
        with pytest.raises(PluginError, match=r"the files of plugin changing changed during the run.*resume the run"):
            measure()


def test_a_run_never_mixes_two_versions_of_a_plugin(write_plugin, tmp_path):
    """If a plugin's file changes during a run, its cells fail, and resuming measures the new code with its hash."""
    plugin = write_plugin("changing", CHANGES_ITSELF.format(moment="call"))
    request = Request(
        variants=["changing"], devices=["cpu:0"], plugins=[plugin], protocol=CONFIG.within(0.01),
        axes={"heads": [1], "seq": [8, 16], "head_dim": [8]}, results=tmp_path / "results", name="r",
    )  # fmt: skip
    catalog, plan = plan_of(request)
    run = start(request, catalog, plan)
    execute(run, catalog, plan)
    first = store.read_run(run).records
    assert {record.status for record in first} == {"error"}
    assert all("changed during the run" in record.reason for record in first)
    write_plugin("changing", CHANGES_ITSELF.format(moment="never"))
    execute(run, *resumed(run))
    assert store.statuses(run)["ok"] == 2
    assert {r.plugin_sha256 for r in store.read_run(run).records if r.status == "ok"} == {
        source_sha256(named_source(plugin))
    }
