"""Lazy imports of a package's public names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(
    package: str, names: Mapping[str, str], subpackages: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package (PEP 562)."""
    homes = {name: module for module, listed in names.items() for name in listed.split()}
    modules = frozenset(subpackages.split())

    def get(name: str) -> Any:
        if name in homes:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
        elif name in modules:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        names = vars(sys.modules[package])
        own = [*names.get("__all__", ()), *(name for name in names if name.startswith("__"))]
        return sorted({*own, *homes, *modules})

    return get, listed
