"""The package as a whole: its imports, its layers, its names, what it touches."""

import importlib
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harmony_kit as hk

ROOT = Path(__file__).parents[1]


def python(code, *arguments, **options):
    """What a Python process of its own prints."""
    done = subprocess.run(
        [sys.executable, *arguments, "-c", code], capture_output=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_every_public_name_is_there():
    for name in hk.__all__:
        assert getattr(hk, name) is not None
    assert set(hk.__all__) <= set(dir(hk))
    assert sorted(hk.__all__) == sorted(set(hk.__all__))
    with pytest.raises(AttributeError, match="nothing"):
        _ = hk.nothing


PACKAGES = [
    module.name for module in pkgutil.iter_modules(hk.__path__) if not module.name.startswith("_")
]


def test_packages_are_attributes():
    """No import of their own is needed, and `dir` lists them."""
    command_alone = {"cli"}
    for name in {*PACKAGES} - command_alone:
        code = f"import harmony_kit as hk; print(hk.{name}.__name__, {name!r} in dir(hk))"
        assert python(code).split() == [f"harmony_kit.{name}", "True"]


def test_names_that_moved_are_found_with_a_warning():
    from harmony_kit._renamed import _HOMES

    for name, (room, new_name) in _HOMES.items():
        assert name not in hk.__all__
        with pytest.warns(DeprecationWarning, match=f"harmony_kit.{room}.{new_name} now"):
            assert getattr(hk, name) is getattr(getattr(hk, room), new_name)


@pytest.mark.parametrize("package", [*PACKAGES, "convert.anthropic", "builtins.browser"])
def test_all_names_of_a_package_are_there(package):
    module = importlib.import_module(f"harmony_kit.{package}")
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None
        assert name in dir(module)


HEAVY = "pydantic numpy torch vllm transformers tiktoken asyncio rich docstring_parser requests"


def test_importing_is_light():
    code = f"import sys, harmony_kit; print([m for m in {HEAVY.split()} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_nothing_prints_or_reads_clock_environment_or_network():
    """At import, and in rendering and parsing."""
    code = """
import sys
forbidden = []
def hook(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "subprocess.", "os.putenv")):
        forbidden.append(event)
sys.addaudithook(hook)
import harmony_kit as hk
hk.encode("the encoder is built, with whatever its packages do when they are imported")
import os, time
def refuse(*arguments, **options):
    raise AssertionError("touched")
time.time = time.monotonic = time.localtime = refuse
os.environ.__class__.__getitem__ = os.environ.__class__.get = os.getenv = refuse
conversation = [hk.system(current_date="2025-06-28"), hk.user("hi")]
prompt = hk.render(conversation)
hk.parse(hk.encode_with_special("<|channel|>final<|message|>hi<|return|>"))
assert not forbidden, forbidden
"""
    assert python(code) == ""


def test_layers():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        capture_output=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_the_package_names_no_path_of_its_workplace():
    """What ships speaks of itself alone."""
    names = [ROOT.as_posix(), os.path.expanduser("~")]
    for path in [*ROOT.glob("harmony_kit/**/*.py"), *ROOT.glob("backends/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in names if len(name) > 5 and name in text], path


@pytest.mark.parametrize(
    "error",
    [
        hk.errors.InvalidMessageError("wrong", field="role", index=3),
        hk.errors.UnknownTokenError(-1, 5),
        hk.ParseError("missing_start", "expected <|start|>", position=7),
    ],
)
def test_errors_survive_pickling(error):
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))


def test_the_examples_of_the_readme_run(capsys):
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    names = {}
    for block in blocks:
        if "load_backend" not in block:  # whose recording was made with another conversation
            exec(block, names)
        for line in block.splitlines():
            expression, comment, expected = line.partition("  # ")
            if comment and expected[0] in "'(":
                value = eval(expression, names)
                assert value == eval(expected), line
    assert capsys.readouterr().out == "Grey cat on seven hills."


def test_the_example_of_the_conversions_runs():
    text = (ROOT / "docs" / "conversions.md").read_text("utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in names["chunks"]] == [
        *("", None, None, "4", None)
    ]


def test_a_few_thousand_soups():
    """The fuzzer without guidance; python -m fuzz runs it with atheris."""
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.soups", "3000"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.stdout.startswith(b"3000 checked"), done.stderr.decode()
