"""A plugin of variants whose speeds are known: all compute attention head by head, and some repeat a part of the work.

The environment variable CONTESTANTS holds the number of repeated heads of each variant, such as `0,0,1,2`. With 20
heads, a variant that repeats one head takes 5% longer than one that repeats none.
"""

import os

from torch.nn.functional import scaled_dot_product_attention

from attnbench import hookimpl, variant

REPEATED = [int(text) for text in os.environ.get("CONTESTANTS", "0,0,0,0,1,2").split(",")]


def contestant(number, repeated):
    """Return a variant that computes the first `repeated` heads a second time."""

    @variant(f"c{number}-r{repeated}")
    def by_head(query, key, value, workload):
        output = query.new_empty(query.shape)
        heads = query.shape[1]
        for turn in range(heads + repeated):
            head = slice(turn % heads, turn % heads + 1)
            output[:, head] = scaled_dot_product_attention(query[:, head], key[:, head], value[:, head])
        return output

    return by_head


@hookimpl
def attnbench_variants():
    """Return the contestants."""
    return [contestant(number, repeated) for number, repeated in enumerate(REPEATED)]
