"""Sums that are equal if an output and its gradients belong to the same inputs, and with dropout to the same weights.

With P the weights and S the scaled products of queries and keys, dV = P^T dO and O = P V, so <dO, O> = <dV, V>, where
<A, B> is the sum of the products of all elements. Both dQ and dK are products of dS, so <dQ, Q> = <dK, K>. This holds
for each key head with its query heads, under every mask, bias and softcap. It takes a time that is linear in the length
of the sequences, so dK and dV can be checked in timed calls too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from attnbench.conformance.accuracy import AccuracyResult, Answer
from attnbench.reference import Part, in_bhsd
from attnbench.tensors.chunks import chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

# The rules that `judge_sums` applies, in the order of the sums.
OF_VALUES, OF_KEYS = "<dO, O> = <dV, V>", "<dQ, Q> = <dK, K>"


def gradient_sums(workload: Workload, inputs: Inputs, answer: Answer, part: Part) -> torch.Tensor:
    """Return the sums over the sequences and key heads of `part`, as a float64 tensor (2, 3) on the answer's device.

    For each rule, there are the left sum, the right sum, and the sum of the squares of all products. The answer must
    contain all rows and all gradients. The host does not wait for the result.
    """
    answered = answer.part or Part.whole(workload)
    group = workload.heads // workload.kv_heads
    sums = torch.zeros(2, 3, dtype=torch.float64, device=answer.output.device)
    if inputs.grad_output is None or answer.gradients is None:
        return sums
    leaves = [in_bhsd(tensor.detach(), inputs.layout) for tensor in (*inputs.leaves, inputs.grad_output)]
    for batch in part.batches:
        query, key, value, grad_output = (tensor[batch] for tensor in leaves)
        place = answered.batches.index(batch)
        output, of_query, of_key, of_value = (tensor[place] for tensor in answer.tensors)
        for head in part.kv_heads:
            place = answered.kv_heads.index(head)
            given, got = slice(head * group, (head + 1) * group), slice(place * group, (place + 1) * group)
            pairs = (
                (grad_output[given], output[got]), (value[head], of_value[place]),
                (query[given], of_query[got]), (key[head], of_key[place]),
            )  # fmt: skip
            of_pairs = torch.stack([_sum_and_squares(*pair) for pair in pairs]).view(2, 2, 2)
            sums += torch.cat([of_pairs[..., 0], of_pairs[..., 1].sum(1, keepdim=True)], 1)
    return sums


def judge_sums(sums: torch.Tensor, rules: Sequence[str], tolerance: float) -> list[AccuracyResult]:
    """Judge the sums. The sums of one rule may differ by `tolerance` times the root of the sum of squares.

    If the gradients don't belong together, the sums typically differ by about this root. Sums that are not finite are
    not judged.
    """
    results = []
    for rule, (left, right, squares) in zip(rules, sums.tolist(), strict=True):
        ratio = abs(left - right) / (tolerance * squares**0.5) if 0 < squares < math.inf else 0.0
        reason = f"{rule}; the sums are {left:.6g} and {right:.6g}" if ratio > 1 else None
        results.append(AccuracyResult(rule, ratio, None, reason))
    return results


def _sum_and_squares(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the sum of the products of two tensors' elements, and the sum of the squares of the products."""
    total = torch.zeros(2, dtype=torch.float64, device=left.device)
    for of_left, of_right in zip(chunks(left), chunks(right), strict=True):
        products = of_left.detach().double() * of_right.detach().double()
        total += torch.stack([products.sum(), products.square().sum()])
    return total
