"""All checks: what each demands, why, the usual bug, the remedy, and the workloads it is run on."""

from __future__ import annotations

from attnbench.conformance.answer_checks import ANSWERS
from attnbench.conformance.checks.traits import TRAITS
from attnbench.conformance.property_checks import PROPERTIES

DEMANDED = (*ANSWERS, *PROPERTIES)
CHECKS = {check.name: check for check in (*DEMANDED, *TRAITS)}
