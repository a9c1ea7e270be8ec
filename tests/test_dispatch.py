"""Run-time dispatch to the variant that was measured as the fastest."""

import gc
import json
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask

import attnbench
import synthetic
from attnbench import Variant, dispatch
from attnbench.analysis.dispatch_table import regions, to_json
from attnbench.analysis.results import Results
from attnbench.errors import UsageError
from attnbench.tensors import alignment
from attnbench.workloads.workload import Workload
from attnbench_variants import flex

CELLS = synthetic.workloads(seqs=(64, 128, 256), heads=2, head_dim=16)


@pytest.fixture(autouse=True)
def _forget():
    """Discard the variants that earlier tests chose and prepared."""
    dispatch._variant.cache_clear()
    dispatch._PREPARED.clear()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write a dispatch table for this machine's CPU in which chunked is the fastest variant."""
    folder = tmp_path_factory.mktemp("table")
    here = synthetic.Machine("cpu", dispatch._device_name("cpu"), 1.2e11, 1.4e10, 9_000, 8e9)
    variants = ("naive", "sdpa", "chunked", "xformers")
    run = synthetic.make_run(
        folder, cells=CELLS, variants=variants, machine=here, slower={"chunked": 0.5}, baseline=None, rounds=8
    )
    path = folder / "table.json"
    path.write_text(json.dumps(to_json(regions(Results.load(run)))))
    return path


def tensors(seq, *, grad=False, kv_heads=2):
    """Return random query, key and value tensors."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn((1, heads, seq, 16), generator=generator).requires_grad_(grad) for heads in (2, kv_heads, kv_heads)
    ]


def test_best_names_the_fastest_measured_variant(table):
    """`best` returns the name of the fastest variant in the table, even for a shape between two measured shapes."""
    workload = Workload(heads=2, seq_q=100, head_dim=16, mask="causal")
    assert attnbench.best(workload, "cpu", table) == "chunked"


def test_best_reads_runs_as_well_as_a_table(table):
    """A folder of runs can be used as the table."""
    assert attnbench.best(Workload(heads=2, seq_q=64, head_dim=16), "cpu", table.parent) == "chunked"


def test_a_device_of_another_type_is_refused(table):
    """A device that is neither a CPU nor a CUDA GPU raises UsageError, instead of being looked up as a CPU."""
    with pytest.raises(UsageError, match="device 'mps:0': expected cpu, cuda or cuda:N"):
        attnbench.best(Workload(heads=2, seq_q=64, head_dim=16), "mps:0", table)


def test_the_table_may_come_from_the_environment(table, monkeypatch):
    """If the `table` argument is omitted, the path is read from the ATTNBENCH_TABLE environment variable."""
    monkeypatch.setenv("ATTNBENCH_TABLE", str(table))
    assert attnbench.best(Workload(heads=2, seq_q=64, head_dim=16), "cpu") == "chunked"


@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize("grad", [False, True])
def test_attention_equals_scaled_dot_product_attention(table, mask, grad):
    """The dispatched output and its gradients equal those of scaled dot-product attention."""
    query, key, value = tensors(100, grad=grad)
    output = attnbench.attention(query, key, value, mask=mask, table=table)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=mask == "causal")
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    if grad:
        (ours,) = torch.autograd.grad(output.sum(), query)
        (theirs,) = torch.autograd.grad(expected.sum(), query)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_attention_uses_the_next_variant_if_the_fastest_refuses(table, monkeypatch):
    """If the fastest variant does not support a workload, the next variant in the table is used."""
    installed = dict(dispatch._installed())
    monkeypatch.setattr(type(installed["chunked"]), "unsupported_reason", lambda *_: "not today")
    workload = Workload(heads=2, seq_q=64, head_dim=16)
    dispatch._variant.cache_clear()
    assert dispatch._variant(workload, "cpu", table).name == "sdpa"
    dispatch._variant.cache_clear()


def test_shapes_that_were_never_measured_are_refused_with_a_remedy(table):
    """For a head_dim that was not measured, the error suggests the command that measures it."""
    with pytest.raises(UsageError, match=r"no workload similar to .*d32.* was measured on .*attnbench run"):
        attnbench.best(Workload(heads=2, seq_q=64, head_dim=32), "cpu", table)


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    """A missing table raises a UsageError that names the file."""
    with pytest.raises(UsageError, match=r"dispatch table .*none\.json.* can't be read"):
        attnbench.best(Workload(heads=2, seq_q=64, head_dim=16), "cpu", tmp_path / "none.json")


def test_a_variant_gets_tensors_that_are_aligned_as_it_declares(table, monkeypatch):
    """Tensors that are less aligned than the variant declares are copied, and gradients reach the caller's tensors."""
    attend, seen = torch.nn.functional.scaled_dot_product_attention, []

    class Vectorised(Variant):
        name = "chunked"
        alignment_bytes = 16

        def prepare_function(self, workload, inputs):
            return lambda *leaves: seen.extend(leaf.data_ptr() % 16 for leaf in leaves) or attend(*leaves)

    monkeypatch.setattr(dispatch, "_installed", lambda: {"chunked": Vectorised()})
    for module in (alignment, dispatch):
        monkeypatch.setattr(module, "needed_alignment", lambda variant, device_type: variant.alignment_bytes)
    odd = [torch.cat([torch.zeros(1), each.flatten()])[1:].view_as(each).requires_grad_() for each in tensors(64)]
    output = attnbench.attention(*odd, table=table)
    assert seen == [0, 0, 0]
    torch.testing.assert_close(output, attend(*odd))
    output.sum().backward()
    assert all(each.grad is not None for each in odd)


def test_seeded_masks_and_odd_shapes_are_refused(table):
    """Masks with random lengths are refused, and so are tensors that do not have four dimensions."""
    with pytest.raises(UsageError, match="padding has random lengths"):
        attnbench.attention(*tensors(64), mask="padding", table=table)
    with pytest.raises(UsageError, match="four dimensions"):
        attnbench.attention(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), table=table)


def assert_equals_sdpa(output, query, key, value):
    """Assert that an output without a mask equals that of torch's scaled dot-product attention."""
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


class Counting(Variant):
    """A variant that stores the workloads for which it was prepared."""

    name = "chunked"

    def __init__(self):
        self.prepared = []

    def prepare_function(self, workload, inputs):
        self.prepared.append((workload, weakref.ref(inputs.query), weakref.ref(inputs)))
        assert workload.needs_gradient == inputs.query.requires_grad == (inputs.grad_output is not None)
        return torch.nn.functional.scaled_dot_product_attention


@pytest.fixture
def install(monkeypatch):
    """Return a function that installs a variant in place of `chunked`, which is the fastest one in the table."""

    def replace(variant):
        monkeypatch.setattr(dispatch, "_installed", lambda: {"chunked": variant})
        return variant

    return replace


class TestPreparedOnce:
    """A variant is prepared once for tensors of the same kind, and its function is kept."""

    def test_the_same_shapes_are_prepared_once(self, install, table):
        """New tensors of the same shapes use the prepared function, and their outputs are those of the new tensors."""
        variant = install(Counting())
        for scale in (1.0, 2.0, 3.0):
            query, key, value = (scale * each for each in tensors(64))
            assert_equals_sdpa(attnbench.attention(query, key, value, table=table), query, key, value)
        assert len(variant.prepared) == 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda made: ([each[:, :, :63] for each in made], {}),
            lambda made: ([each.requires_grad_() for each in made], {}),
            lambda made: ([each.transpose(1, 2).contiguous().transpose(1, 2) for each in made], {}),
            lambda made: ([torch.cat((each.flatten()[:1], each.flatten()))[1:].view_as(each) for each in made], {}),
            lambda made: (made, {"mask": "causal"}),
        ],
        ids=["shape", "gradients", "strides", "alignment", "mask"],
    )
    def test_another_setting_is_prepared_again(self, install, table, change):
        """Another shape, direction, stride, alignment or mask is prepared separately, and both are kept."""
        variant = install(Counting())
        attnbench.attention(*tensors(64), table=table)
        changed, named = change(tensors(64))
        for _ in range(2):
            attnbench.attention(*changed, table=table, **named)
            attnbench.attention(*tensors(64), table=table)
        assert len(variant.prepared) == 2

    def test_global_settings_are_prepared_separately(self, install, table):
        """A function that was prepared in inference mode is not used for other calls."""
        variant = install(Counting())
        with torch.inference_mode():
            attnbench.attention(*tensors(64), table=table)
        output = attnbench.attention(*tensors(64), table=table)
        assert not output.is_inference()
        assert len(variant.prepared) == 2

    def test_gradients_of_new_tensors(self, table):
        """With a kept function, the gradients of new tensors and of tensors inside a graph are correct."""
        for scale in (1.0, 2.0):
            query, key, value = tensors(64, grad=True)
            output = attnbench.attention(query * scale, key, value, table=table)
            expected = torch.nn.functional.scaled_dot_product_attention(query * scale, key, value)
            ours, theirs = (torch.autograd.grad(each.sum(), (query, key, value)) for each in (output, expected))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)

    def test_gradients_of_some_tensors(self, table):
        """If only the query requires a gradient, the output still has one."""
        query, key, value = tensors(64)
        attnbench.attention(query.requires_grad_(), key, value, table=table).sum().backward()
        assert query.grad is not None

    @pytest.mark.parametrize("name", ["naive", "sdpa", "chunked"])
    def test_no_tensor_is_kept(self, install, table, monkeypatch, name):
        """The kept function keeps neither the tensors of a call nor those for which it was prepared."""
        seen = []
        make = dispatch.Inputs

        def spied(*arguments, **named):
            inputs = make(*arguments, **named)
            seen.extend(weakref.ref(each) for each in (*inputs.leaves, inputs.grad_output) if each is not None)
            return inputs

        installed = dispatch._installed()[name]
        install(installed)
        monkeypatch.setattr(dispatch, "Inputs", spied)
        made = tensors(64, grad=True)
        seen.extend(weakref.ref(each) for each in made)
        output = attnbench.attention(*made, mask="causal", table=table)
        output.sum().backward()
        del made, output
        gc.collect()
        assert [ref() for ref in seen] == [None] * 7

    def test_the_number_of_kept_functions_is_bounded(self, install, table, monkeypatch):
        """Only the most recently used functions are kept."""
        variant = install(Counting())
        monkeypatch.setattr(dispatch, "_PREPARED", dispatch._PreparedFunctions(2))
        for seq in (64, 65, 64, 66, 64, 65):  # 66 replaces 65, because 64 was used later
            attnbench.attention(*tensors(seq), table=table)
        assert [workload.seq_q for workload, *_ in variant.prepared] == [64, 65, 66, 65]
        assert len(dispatch._PREPARED._functions) == 2

    def test_threads_prepare_once(self, install, table):
        """If several threads make the first call at the same time, one prepares the variant, and all are correct."""
        together = threading.Barrier(4)
        variant = install(Counting())

        def call(seed):
            generator = torch.Generator().manual_seed(seed)
            query, key, value = (torch.randn((1, 2, 64, 16), generator=generator) for _ in range(3))
            together.wait()
            for _ in range(5):
                assert_equals_sdpa(attnbench.attention(query, key, value, table=table), query, key, value)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, range(4)))
        assert len(variant.prepared) == 1

    def test_a_block_mask_is_made_once(self, install, table, monkeypatch):
        """The block mask of `flex` is made once for a shape, and passed to every call."""
        made, passed = [], []

        def attend(query, key, value, *, block_mask, **_):
            passed.append(block_mask)
            return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)

        monkeypatch.setattr(flex, "_compiled", lambda: attend)
        make = BlockMask.from_kv_blocks
        monkeypatch.setattr(
            BlockMask, "from_kv_blocks", lambda *args, **named: made.append(make(*args, **named)) or made[-1]
        )
        install(flex.Flex())
        for _ in range(3):
            attnbench.attention(*tensors(64), mask="causal", table=table)
        assert len(made) == 1
        assert len(passed) >= 3
        assert all(block_mask is made[0] for block_mask in passed)

    def test_a_failed_preparation_is_tried_again(self, install, table):
        """If the preparation raises an error, nothing is kept, and the next call prepares the variant again."""
        variant = install(Counting())
        variant.prepare_function = lambda workload, inputs: 1 / 0
        with pytest.raises(ZeroDivisionError):
            attnbench.attention(*tensors(64), table=table)
        del variant.prepare_function
        attnbench.attention(*tensors(64), table=table)


def test_a_variant_with_its_own_prepare_is_prepared_at_each_call(install, table):
    """A variant that defines `prepare` is prepared at each call, with the tensors of this call."""

    class Bound(Variant):
        name = "chunked"
        prepared = 0

        def prepare(self, workload, inputs):
            self.prepared += 1
            return lambda: torch.nn.functional.scaled_dot_product_attention(*inputs.leaves)

    variant = install(Bound())
    for scale in (1.0, 2.0):
        query, key, value = (scale * each for each in tensors(64))
        assert_equals_sdpa(attnbench.attention(query, key, value, table=table), query, key, value)
    assert variant.prepared == 2


def test_the_other_layout_is_transposed(install, table):
    """A variant with the layout BSHD gets transposed tensors, and its output is transposed back."""

    class Swapped(Counting):
        layout = "BSHD"

        def prepare_function(self, workload, inputs):
            assert inputs.query.shape == (1, 64, 2, 16)
            assert inputs.grad_output is None or inputs.grad_output.shape == (1, 64, 2, 16)
            attend = super().prepare_function(workload, inputs)
            return lambda *leaves: attend(*(leaf.transpose(1, 2) for leaf in leaves)).transpose(1, 2)

    install(Swapped())
    for grad in (False, True):
        query, key, value = tensors(64, grad=grad)
        assert_equals_sdpa(attnbench.attention(query, key, value, table=table), query, key, value)


def test_the_calling_context_is_entered_at_each_call(install, table):
    """The calling context of a variant is active while it is prepared and at each call, and never afterwards."""
    active = []

    class Pinned(Counting):
        @contextmanager
        def calling_context(self):
            active.append("entered")
            yield
            active.append("left")

        def prepare_function(self, workload, inputs):
            active.append("prepared")
            attend = super().prepare_function(workload, inputs)
            return lambda *leaves: active.append("called") or attend(*leaves)

    install(Pinned())
    for _ in range(2):
        attnbench.attention(*tensors(64), table=table)
    assert active == ["entered", "prepared", "left", "entered", "called", "left", "entered", "called", "left"]


def test_one_thread_at_a_time_is_in_a_calling_context(install, table):
    """While a variant with a calling context is called, no other thread can enter one.

    Otherwise, a thread that leaves its context late would restore the flags of another thread's context.
    """
    others_may_enter = []

    class Pinned(Counting):
        @contextmanager
        def calling_context(self):
            with ThreadPoolExecutor(1) as pool:
                others_may_enter.append(pool.submit(dispatch._IN_CALLING_CONTEXT.acquire, blocking=False).result())
            yield

    install(Pinned())
    attnbench.attention(*tensors(64), table=table)
    assert others_may_enter == [False, False]


def test_tensors_of_different_dtypes_are_refused(table):
    """If query, key and value do not have the same dtype, the error names the dtypes."""
    query, key, value = tensors(64)
    with pytest.raises(UsageError, match=r"the same dtype, got torch\.float32, torch\.float32, torch\.float16"):
        attnbench.attention(query, key, value.half(), table=table)
