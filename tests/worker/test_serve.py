"""The replies with which a worker reports exceptions, and its requests after a CUDA error. The errors are simulated."""

import msgspec
import pytest
import torch

from attnbench.conformance.suite import cases
from attnbench.errors import HarnessMemoryError
from attnbench.messages import (
    Block,
    CheckRequest,
    CheckResultNotice,
    DoneReply,
    FailedReply,
    SupportQuestion,
    SupportRequest,
)
from attnbench.plugins.loading import named_source, variant_of
from attnbench.worker import serve
from attnbench.worker.serve import WorkerServer
from attnbench.workloads.workload import Workload

PLUGIN = """
from attnbench import Variant, hookimpl

class Faults(Variant):
    name = "faults"

    def prepare(self, workload, inputs):
        raise RuntimeError("CUDA error: misaligned address")

@hookimpl
def attnbench_variants():
    return [Faults()]
"""
BLOCK = Block([1e4, 1e4], 1, 1e5)
ILLEGAL = "CUDA error: an illegal memory access was encountered"


class Notices(list):
    """A stand-in for the channel that keeps the notices."""

    send = list.append


@pytest.fixture
def source(tmp_path):
    """Return the source of a plugin whose variant raises a CUDA error."""
    (tmp_path / "faults.py").write_text(PLUGIN)
    return named_source(str(tmp_path / "faults.py"))


@pytest.fixture
def lost_gpu(monkeypatch):
    """Simulate a GPU that can no longer be used."""

    def synchronize(device=None):
        raise RuntimeError(ILLEGAL)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)


def test_a_check_stops_after_a_cuda_error(source):
    """The suite stops after the test with the error, and the reply says whether tests remain for another process."""
    request = CheckRequest(source, "faults", "cpu", "quick", only=["uniform", "repeated-heads"])
    ids = [case.id for case in cases(variant_of(source, "faults"), "cpu", "quick", request.only)]
    assert len(ids) > 1
    for done, remain in (([], True), (ids[:-1], False)):
        notices = Notices()
        reply = WorkerServer(notices).answer(msgspec.structs.replace(request, done=done))
        results = [notice for notice in notices if isinstance(notice, CheckResultNotice)]
        assert reply == DoneReply(tests_remain=remain)
        assert [(notice.id, notice.result["gpu_lost"]) for notice in results] == [(ids[len(done)], True)]


def test_a_reply_to_a_cuda_error_says_that_the_worker_ends():
    """The reply to a CUDA error says that the worker ends, and that an earlier call may have caused the error."""
    server = WorkerServer(Notices())
    reply = server.checked(server.failure(RuntimeError(ILLEGAL)))
    assert (reply.status, reply.gpu_lost, server.gpu_lost) == ("error", True, True)
    assert reply.reason.startswith(f"RuntimeError: {ILLEGAL}; CUDA reports the error of a kernel at a later call")


@pytest.mark.parametrize("error", [ValueError("a shape"), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_worker_continues_after_other_errors(error):
    """After another error, and if torch's allocator has too little memory, the worker goes on."""
    server = WorkerServer(Notices())
    assert not server.checked(server.failure(error)).gpu_lost
    assert not server.gpu_lost


def test_a_measurement_on_a_lost_gpu_has_failed(lost_gpu):
    """If the GPU can't be used after a block, the block has failed, even if its times were measured."""
    server = WorkerServer(Notices())
    server.enter("measure")
    reply = server.checked(BLOCK)
    assert (type(reply), reply.status, reply.phase, reply.gpu_lost) == (FailedReply, "error", "measure", True)
    assert f"the GPU reported RuntimeError: {ILLEGAL}; CUDA reports" in reply.reason


def test_a_wrong_answer_on_a_lost_gpu_stays_wrong(lost_gpu):
    """Another failure keeps its status and reason, and the reply also says that the worker ends."""
    wrong = FailedReply("incorrect", "conform", "row 3")
    reply = WorkerServer(Notices()).checked(wrong)
    assert (reply.status, reply.reason, reply.gpu_lost) == ("incorrect", "row 3", True)


def test_a_usable_gpu_changes_no_reply():
    """Without a CUDA error, each reply is sent as it is."""
    for reply in (BLOCK, DoneReply(), FailedReply("unsupported", "prepare", "no")):
        assert WorkerServer(Notices()).checked(reply) is reply


def test_a_variant_that_loses_the_gpu_when_asked_ends_the_process(source, lost_gpu, monkeypatch):
    """If `unsupported_reason` makes the GPU unusable, the process ends, and other variants are asked in a new one."""

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(serve.os, "_exit", end)
    question = SupportRequest([SupportQuestion("faults", source)], [Workload(heads=1, seq_q=8, head_dim=8)], "cuda")
    with pytest.raises(SystemExit):
        WorkerServer(Notices()).answer(question)


@pytest.mark.parametrize(
    ("error", "status", "flags"),
    [
        (HarnessMemoryError("the harness ran out of memory"), "out_of_memory", ["harness_out_of_memory"]),
        (MemoryError(), "out_of_memory", []),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory", []),
        (ValueError("memory"), "error", []),
    ],
)
def test_a_reply_says_whose_memory_ran_out(error, status, flags):
    """A reply to an out-of-memory error has a flag if the harness ran out of memory, and none if the variant did."""
    reply = WorkerServer(Notices()).failure(error)
    assert (reply.status, reply.flags) == (status, flags)
