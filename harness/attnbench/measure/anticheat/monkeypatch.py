"""Whether the code that measures and judges is still what it was before a plugin was imported."""

from __future__ import annotations

import builtins
import json
import math
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

import attnbench

CORE = f"{attnbench.__name__}."
SHARED: tuple[Any, ...] = (builtins, math, json, os, torch, torch.Tensor, torch.autograd, torch.nn.functional)

OTHERS = {"torch.manual_seed"}  # torch's own compiler wraps it when it is imported


class MonkeypatchDetector:
    """Remembers the functions of the harness and those of torch and Python that it judges by.

    Code that is imported later is not sealed, nor what merely came on top: a name that was there must stay what it was.
    """

    def __init__(self) -> None:
        self._modules = {
            name: module
            for name, module in sys.modules.items()
            if name.startswith(CORE) and isinstance(module, ModuleType)
        }
        self._functions = [
            (f"{where}.{name}", vars(owner), name, value, getattr(value, "__code__", None))
            for where, owner in self._owners()
            for name, value in vars(owner).items()
            if f"{where}.{name}" not in OTHERS and _acts(value)
        ]

    def replaced(self) -> list[str]:
        """Name what was put in place of a function, or of a whole module, that was there."""
        swapped = [name for name, module in self._modules.items() if sys.modules.get(name) is not module]
        patched = [
            where
            for where, names, name, value, code in self._functions
            if (now := names.get(name)) is not value or (code is not None and now.__code__ is not code)
        ]
        return [f"patched function: {where}" for where in (*swapped, *patched)]

    def _owners(self) -> Iterator[tuple[str, Any]]:
        for shared in SHARED:
            yield f"{shared.__module__}.{shared.__name__}" if isinstance(shared, type) else shared.__name__, shared
        for name, module in self._modules.items():
            yield name, module
            for cls in [value for value in vars(module).values() if isinstance(value, type)]:
                if cls.__module__ == name:
                    yield f"{name}.{cls.__name__}", cls


def _acts(value: Any) -> bool:
    return callable(value) or isinstance(value, (property, staticmethod, classmethod))
