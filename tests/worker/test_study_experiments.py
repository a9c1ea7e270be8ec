"""The experiments of studies that compute values instead of timing variants."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attnbench.errors import AttnbenchError
from attnbench.study import Settings, find_study, make
from attnbench.study.study import compute
from attnbench.worker.study_experiments import _jacobian_norm, attention_weights, scaling_factor, steps


def test_scaling_keeps_the_variance():
    """The variance of the scores is about head_dim without scaling, and about 1 with scaling.

    Without scaling, the entropy and the gradient become smaller as head_dim grows.
    """
    rows = {(row["head_dim"], row["scaled"]): row for row in scaling_factor([16, 256], keys=128, queries=128)}
    for head_dim in (16, 256):
        assert rows[head_dim, False]["variance"] == pytest.approx(head_dim, rel=0.2)
        assert rows[head_dim, True]["variance"] == pytest.approx(1, rel=0.2)
    assert rows[256, False]["entropy"] < rows[16, False]["entropy"] < rows[256, True]["entropy"]
    assert rows[256, False]["gradient_norm"] < rows[16, False]["gradient_norm"]


def test_the_jacobian_norm_agrees_with_autograd():
    """The formula for the norm of softmax's Jacobian agrees with the norm computed from autograd's Jacobian."""
    scores = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda x: x.softmax(-1), scores)
    assert torch.isclose(_jacobian_norm(scores.softmax(-1)), jacobian.norm())


def test_weights_of_a_sentence():
    """The attention weights in each row sum to 1. With the causal mask, all weights above the diagonal are 0."""
    free, causal = attention_weights("one two one three")
    assert free["words"] == ["one", "two", "one", "three"]
    for row in free["weights"] + causal["weights"]:
        assert sum(row) == pytest.approx(1)
    assert all(weight == 0 for index, row in enumerate(causal["weights"]) for weight in row[index + 1 :])
    assert causal["weights"][0][0] == 1


def test_the_steps_compute_attention():
    """The output is softmax(Q K^T / sqrt(head_dim)) V, and each head's weights are causal."""
    rows = steps("a b a", width=6, head_dim=4, heads=2)
    found = {row["step"]: torch.tensor(row["matrix"]) for row in rows}
    expected = scaled_dot_product_attention(found["query"], found["key"], found["value"])
    torch.testing.assert_close(found["output"], expected)
    assert found["embeddings"][0].equal(found["embeddings"][2])
    assert not found["heads"].triu(1).any()
    assert [row["step"] for row in rows].count("heads") == 2


@pytest.mark.parametrize("name", ["scaling-factor", "weights", "steps"])
def test_computed_studies_from_end_to_end(name, tmp_path):
    """A study that computes its rows writes the rows, the figure and the finding to files."""
    sizes, phrase = {
        "scaling-factor": ({"head_dims": [4, 64], "keys": 16, "queries": 16}, "head_dim 4 to 64"),
        "weights": ({"sentence": "a b a"}, "a sentence of 3 words (2 different ones"),
        "steps": ({"sentence": "a b a"}, "3 words"),
    }[name]
    outcome = make(find_study(name), Settings(tmp_path, sizes=sizes))
    assert {path.name for path in outcome.folder.iterdir()} == {
        "rows.json", "finding.md", "figure.svg", "figure.png",
    }  # fmt: skip
    assert outcome.finding in (outcome.folder / "finding.md").read_text()
    assert phrase in outcome.finding


def test_a_failed_experiment_is_reported_with_its_reason():
    """The error for a failed experiment contains the last line of the experiment's output."""
    with pytest.raises(AttnbenchError, match=r"experiment weights failed: .*unexpected keyword argument 'depth'"):
        compute("weights", {"depth": 3})
