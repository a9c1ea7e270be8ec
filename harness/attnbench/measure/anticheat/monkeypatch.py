"""Detect functions that a plugin replaced in the harness, in torch or in Python."""

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

HARNESS = f"{attnbench.__name__}."
# Modules and classes outside the harness whose functions the harness uses to measure variants or to check outputs.
SHARED: tuple[Any, ...] = (builtins, math, json, os, torch, torch.Tensor, torch.autograd, torch.nn.functional)

MAY_CHANGE = {"torch.manual_seed"}  # not watched, because importing torch's compiler wraps this function


class MonkeypatchDetector:
    """A snapshot of the harness's functions and of the torch and Python functions on which the harness relies.

    The snapshot is taken at construction. Modules and names that are added later are not watched.
    """

    def __init__(self) -> None:
        self._modules = {
            name: module
            for name, module in sys.modules.items()
            if name.startswith(HARNESS) and isinstance(module, ModuleType)
        }
        self._functions = [
            (f"{where}.{name}", vars(owner), name, value, getattr(value, "__code__", None))
            for where, owner in self._owners()
            for name, value in vars(owner).items()
            if f"{where}.{name}" not in MAY_CHANGE and _is_code(value)
        ]

    def replaced(self) -> list[str]:
        """Return a finding for each function or whole module that was replaced since construction."""
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


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, (property, staticmethod, classmethod))
