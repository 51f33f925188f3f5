"""Messages to and from the shapes that other programs speak."""

from importlib import import_module
from types import ModuleType

_APIS = ("anthropic", "chat_completions", "harmony", "responses")


def __getattr__(name: str) -> ModuleType:
    if name not in _APIS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_APIS})
