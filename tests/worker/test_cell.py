"""Sessions that measure the cells of one variant."""

import subprocess
import sys

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
