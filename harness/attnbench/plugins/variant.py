"""The plugin contract: the attributes and methods that a variant must have."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from attnbench.device_names import DEVICE_TYPES
from attnbench.errors import PluginError

if TYPE_CHECKING:
    import torch

    from attnbench.tensors.inputs import Inputs
    from attnbench.workloads.workload import Workload

Layout = Literal["BHSD", "BSHD"]
Tier = Literal["fused", "plain", "quantised"]
LAYOUTS = ("BHSD", "BSHD")
TIERS = ("fused", "plain", "quantised")
TRAITS = ("nan-safe", "repeatable", "batch-invariant", "empty-keys")  # properties that a variant may claim to have
ALIGNMENTS = tuple(1 << power for power in range(10))  # torch allocates GPU memory at multiples of 512 bytes
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
PACKAGE_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")  # a distribution's name (PEP 508)

Timed = Callable[[], "torch.Tensor"]
AttentionFunction = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]


class Variant:
    """An implementation of attention. A subclass must set `name` and define `prepare_function` or `prepare`.

    - `layout`: the layout of the inputs and the output: `BHSD` (batch, heads, sequence, head_dim) or `BSHD` (batch,
      sequence, heads, head_dim). Inputs are created in this layout, so no conversion is timed.
    - `tier`: the accuracy class. `fused` keeps scores in float32 and must meet the strict error bound. `plain` stores
      scores in the workload's dtype, and its error is compared with that of a textbook implementation. `quantised`
      computes in 8 bits or fewer, and its error must stay below a certain fraction of the output's size.
    - `exact`: False if the variant computes something other than softmax attention, such as linear attention or a
      recurrent layer. Such variants are timed like any other but shown separately.
    - `default_on`: the kinds of device ('cpu', 'cuda') on which runs without `--variant` include this variant. Leave
      out a kind of device on which the set-up takes minutes or the variant is of little use.
    - `ranks`: the number of devices that one call works on. A variant that runs as a ring of processes sets a number
      above 1. Such a variant supports only workloads with split `ring` and the same number of `gpus`.
    - `costly_on`: the kinds of device on which each new shape takes seconds, because the variant is compiled or
      interpreted. On these devices the conformance suite runs one level lower.
    - `packages`: the distributions (`pip` names) that affect this variant's results, such as ("flash-attn",). After
      one of them is upgraded, `attnbench run --resume` measures the variant again.
    - `alignment_bytes`: the byte alignment of the first element that the kernels need on a GPU, such as 16 if they load
      16 bytes at a time. It applies to query, key, value and the gradient of the output, and rows must be as aligned as
      in a contiguous tensor. A power of two up to 512, at which torch allocates memory; the default is 1. The
      conformance suite does not ask for less aligned inputs, and `attnbench.attention` copies them. On a CPU it has no
      effect.
    - `baseline`: True if other variants are compared with this one. If a run has several such variants, the first by
      name is the baseline, unless `--baseline` names a different variant.
    - `traits`: optional properties that the variant claims to have. The conformance suite checks these claims (see
      docs/conformance.md).
    """

    name: str = ""
    layout: Layout = "BHSD"
    tier: Tier = "fused"
    exact: bool = True
    default_on: tuple[str, ...] = DEVICE_TYPES
    ranks: int = 1
    costly_on: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    alignment_bytes: int = 1
    baseline: bool = False
    traits: ClassVar[frozenset[str]] = frozenset()

    def unsupported_reason(self, workload: Workload, device: str) -> str | None:  # noqa: ARG002 - used by subclasses
        """Return why this variant can't run `workload` on `device`, or None if it can.

        `device` is the type of the device, 'cpu' or 'cuda', and never the name of one GPU such as 'cuda:1'. The method
        is called before any tensor is created. A missing library is a valid reason, too, for example 'needs the package
        X (pip install X)'.
        """
        return None

    def prepare_function(self, workload: Workload, inputs: Inputs) -> AttentionFunction:  # noqa: ARG002 - used by subclasses
        """Do the untimed set-up (block masks, plans, compilation) and return a function of query, key and value.

        The function returns a new output tensor in `layout`. It may be called many times, with `inputs.leaves` or with
        other tensors of the same shapes, strides, dtype and device, so it must not keep `inputs.query`, `inputs.key`,
        `inputs.value` or `inputs.grad_output`. It must not change its arguments and must work on the current stream.
        For workloads with a backward pass, autograd is called on the output.
        """
        raise PluginError(
            f"variant {self.name!r} ({type(self).__name__}) has no prepare method: "
            "write prepare_function(self, workload, inputs)"
        )

    def prepare(self, workload: Workload, inputs: Inputs) -> Timed:
        """Return the callable that is timed: by default, the function from `prepare_function`, bound to `inputs`.

        A variant may define this method in place of `prepare_function`, for example because its set-up depends on the
        addresses of the tensors. The callable takes no arguments and reads `inputs` on each call. Then
        `attnbench.attention` prepares the variant again at each call. Raises PluginError if `prepare_function` does not
        return a callable.
        """
        function = self.prepare_function(workload, inputs)
        if not callable(function):
            raise PluginError(f"prepare_function returned {function!r}: expected a callable (query, key, value)")
        return partial(function, *inputs.leaves)

    def calling_context(self) -> AbstractContextManager[Any]:
        """Return a context manager within which the variant is prepared and called, such as a pinned backend of torch.

        It is entered once around each group of calls, never within a timed call. In it, the choice of the backends of
        torch's scaled_dot_product_attention may change, but no other global flag of torch. Each call of this method
        returns a new context manager.
        """
        return nullcontext()

    def prepare_lse(
        self,
        workload: Workload,  # noqa: ARG002 - used by subclasses
        inputs: Inputs,  # noqa: ARG002 - used by subclasses
    ) -> Callable[[], tuple[torch.Tensor, torch.Tensor]] | None:
        """Return a callable that computes the output and its log-sum-exp, or None if the variant can't return both.

        The log-sum-exp is the natural logarithm of the sum of the exponentiated, masked scores. It is a float32 tensor
        of shape (B, Hq, Sq) in both layouts, with -inf for each query without a visible key. The log-sum-exp is checked
        but not timed.
        """
        return None


class FunctionVariant(Variant):
    """A variant that the `variant` decorator creates from a function of tensors."""

    def __init__(self, name: str, function: Callable[..., Any], layout: Layout, tier: Tier) -> None:
        self.name = name
        self.function = function
        self.layout = layout
        self.tier = tier
        self.__doc__ = inspect.getdoc(function)
        self.__module__ = function.__module__

    def prepare_function(self, workload: Workload, inputs: Inputs) -> AttentionFunction:  # noqa: ARG002 - part of the contract
        """Return a function that calls the decorated function with the tensors and the workload."""
        function = self.function
        return lambda query, key, value: function(query, key, value, workload)


def variant(
    name: str, *, layout: Layout = "BHSD", tier: Tier = "fused"
) -> Callable[[Callable[..., Any]], FunctionVariant]:
    """Return a decorator that turns a function `(query, key, value, workload) -> output` into a variant.

    In the default layout, query is (B, Hq, Sq, D), key (B, Hkv, Sk, D), value (B, Hkv, Sk, Dv), output (B, Hq, Sq, Dv).
    """

    def decorate(function: Callable[..., Any]) -> FunctionVariant:
        return FunctionVariant(name, function, layout, tier)

    return decorate


def contract_violation(candidate: object) -> str | None:
    """Return how `candidate` violates the contract of a variant, or None if `candidate` fulfils it."""
    if inspect.isclass(candidate) and issubclass(candidate, Variant):
        return f"{candidate.__name__} is a class: return an instance, {candidate.__name__}()"
    if not isinstance(candidate, Variant):
        return (
            f"{candidate!r} is not a Variant: subclass attnbench.Variant or decorate a function with @variant('name')"
        )
    problems = (
        (
            not (isinstance(candidate.name, str) and NAME_PATTERN.fullmatch(candidate.name)),
            "expected a name of 1 to 100 letters, digits, '.', '_', '+' or '-', starting with a letter or digit",
        ),
        (candidate.layout not in LAYOUTS, f"layout is {candidate.layout!r}, expected one of {', '.join(LAYOUTS)}"),
        (candidate.tier not in TIERS, f"tier is {candidate.tier!r}, expected one of {', '.join(TIERS)}"),
        *(
            (
                isinstance(kinds, str) or not set(kinds) <= set(DEVICE_TYPES),
                f"{field} is {kinds!r}, expected some of {', '.join(DEVICE_TYPES)}, as in ('cuda',)",
            )
            for field, kinds in (("default_on", candidate.default_on), ("costly_on", candidate.costly_on))
        ),
        (
            not isinstance(candidate.ranks, int) or candidate.ranks < 1,
            f"ranks is {candidate.ranks!r}, expected a whole number of at least 1",
        ),
        (
            not _are_distributions(candidate.packages),
            f"packages is {candidate.packages!r}, expected names of distributions, as in ('flash-attn',)",
        ),
        (
            type(candidate.alignment_bytes) is not int or candidate.alignment_bytes not in ALIGNMENTS,
            f"alignment_bytes is {candidate.alignment_bytes!r}, expected a power of two from 1 to {ALIGNMENTS[-1]}",
        ),
        (not isinstance(candidate.baseline, bool), f"baseline is {candidate.baseline!r}, expected True or False"),
        (
            type(candidate).prepare is Variant.prepare and type(candidate).prepare_function is Variant.prepare_function,
            "no prepare method: write prepare_function(self, workload, inputs)",
        ),
    )
    who = f"variant {candidate.name!r} ({type(candidate).__name__})"
    return next((f"{who}: {problem}" for applies, problem in problems if applies), None)


def _are_distributions(names: object) -> bool:
    """Return whether `names` is a tuple or list of valid distribution names."""
    return isinstance(names, (tuple, list)) and all(
        isinstance(name, str) and PACKAGE_PATTERN.fullmatch(name) for name in names
    )
