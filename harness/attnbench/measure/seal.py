"""Whether the code that measures and judges is still what it was before a plugin was imported."""

from __future__ import annotations

import builtins
import json
import math
import os
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import torch

CORE = "attnbench."
SHARED: tuple[Any, ...] = (builtins, math, json, os, torch, torch.Tensor, torch.autograd, torch.nn.functional)

OTHERS = {"torch.manual_seed"}  # torch's own compiler wraps it when it is imported


class Seal:
    """Remembers the functions of the harness and those of torch and Python that it judges by.

    Code that is imported later is not sealed, nor what merely came on top: a name that was there must stay what it was.
    """

    def __init__(self) -> None:
        self._sealed = dict(_sealed())

    def broken(self) -> list[str]:
        """Name what was put in place of a function that was there."""
        now = dict(_sealed())
        return [
            f"patched function: {name}"
            for name, was in self._sealed.items()
            if name not in OTHERS and not _same(was, now.get(name, ()))
        ]


def _sealed() -> Iterator[tuple[str, tuple[Any, ...]]]:
    for shared in SHARED:
        where = f"{shared.__module__}.{shared.__name__}" if isinstance(shared, type) else shared.__name__
        yield from _functions(shared, where)
    for name, module in list(sys.modules.items()):
        if name.startswith(CORE) and isinstance(module, ModuleType):
            yield from _functions(module, name)
            for cls in [value for value in vars(module).values() if isinstance(value, type)]:
                if cls.__module__ == name:
                    yield from _functions(cls, f"{name}.{cls.__name__}")


def _functions(owner: Any, where: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, value in list(vars(owner).items()):
        if isinstance(value, FunctionType):
            yield f"{where}.{name}", (value, value.__code__)
        elif callable(value) or isinstance(value, (property, staticmethod, classmethod)):
            yield f"{where}.{name}", (value,)


def _same(was: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(was) == len(now) and all(one is other for one, other in zip(was, now, strict=True))
