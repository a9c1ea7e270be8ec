"""The alignment that the built-in variants declare for their kernels on a GPU."""

from attnbench.plugins.loading import Plugin, entry_point_sources, load_all, named_source
from attnbench.plugins.scaffold import new_file

# Variants whose kernels read any address: those made of torch's elementwise operations and products, and those whose
# kernels Triton or torch's compiler specialises for the alignment that it finds at each launch.
ANY_ADDRESS = {
    "chunked", "chunked-splitkv", "flex", "gru", "linear", "lstm", "naive", "ring", "ring-4", "sdpa-math",
    "triton-flash", "triton-flash-atomic",
}  # fmt: skip


def test_variants_declare_what_their_kernels_load_at_a_time():
    """The kernels of torch and of the libraries load 16 bytes at a time, so their variants declare 16."""
    loaded = [outcome for _, outcome in load_all(entry_point_sources(), {}) if isinstance(outcome, Plugin)]
    declared = {each.name: each.alignment_bytes for plugin in loaded for each in plugin.variants}
    assert {name for name, alignment in declared.items() if alignment == 1} == ANY_ADDRESS
    assert {alignment for name, alignment in declared.items() if name not in ANY_ADDRESS} == {16}


def test_a_new_variant_declares_the_alignment_of_the_kernels_that_it_calls(tmp_path):
    """The file that `attnbench new` writes calls torch's attention, and therefore declares 16 bytes."""
    path = new_file("fresh", tmp_path)
    ((_, plugin),) = [each for each in load_all([named_source(str(path))], {}) if each[1] is not None]
    assert [each.alignment_bytes for each in plugin.variants] == [16]
