"""The examples in docstrings run, and what people call has one."""

import doctest
import importlib
import inspect
import pkgutil
import sys

import pytest

import harmony_kit as hk

NEEDS_EXTRAS = ("harmony_kit.builtins.python", "harmony_kit.cli")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(hk.__path__, "harmony_kit.")
    if not module.name.startswith((*NEEDS_EXTRAS, "harmony_kit.__main__"))
]
ROOMS = ["", "wire", "calls", "tools", "builtins", "grammar", "convert", "engine", "loop"]


class Finder(doctest.DocTestFinder):
    """Finds the examples of decorated functions too, whose globals are another module's."""

    def _from_module(self, module, value):
        return super()._from_module(module, inspect.unwrap(value))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in Finder().find(module):
        runner.run(test, out=sys.stdout.write)
    assert runner.failures == 0


def called():
    """The public functions."""
    for room in ROOMS:
        package = importlib.import_module(f"harmony_kit.{room}" if room else "harmony_kit")
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            if inspect.isfunction(value):
                yield pytest.param(value, id=f"{room}.{name}".lstrip("."))


@pytest.mark.parametrize("function", [*called()])
def test_public_functions_have_an_example(function):
    assert ">>>" in (function.__doc__ or "")
