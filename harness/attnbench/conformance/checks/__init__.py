"""The checks of the conformance suite, one module per family. They run in workers and import torch."""

from attnbench.conformance.check import Check
from attnbench.conformance.checks import (
    alignment,
    answers,
    combinations,
    device,
    dropout,
    hypothesis_fuzz,
    log_sum_exp,
    needle,
    probes,
    properties,
    repeated_calls,
    strides,
    traits,
)

FAMILIES = (
    answers,
    combinations,
    needle,
    probes,
    properties,
    strides,
    repeated_calls,
    dropout,
    log_sum_exp,
    device,
    hypothesis_fuzz,
    traits,
    alignment,
)

# All checks by name, in the order in which they run. The modules import checks from each other, so each check is
# taken only from the module that defines it.
CHECKS = {
    check.name: check
    for family in FAMILIES
    for check in vars(family).values()
    if isinstance(check, Check) and check.run.__module__ == family.__name__
}
DEMANDED = tuple(check for check in CHECKS.values() if not check.trait)
TRAITS = tuple(check for check in CHECKS.values() if check.trait)
