"""Command-line arguments for tools, and opening the tools."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import HarmonyError, ToolError
from ..tools import Toolbox, ToolPolicy
from ..wire._contents import Tool, ToolNamespace
from ._backend_options import setting

if TYPE_CHECKING:
    from ..builtins.browser import BrowserTool, SearchProvider
    from ..builtins.python import PythonTool

_WEB: Final = ("http://", "https://")


def add_tools(parser: ArgumentParser) -> None:
    """Add the arguments for tools, which `opened_tools` opens."""
    group = parser.add_argument_group("tools")
    group.add_argument(
        "--tool",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="a Python function, or anything else that hk.run takes as a tool; may be repeated",
    )
    group.add_argument(
        "--python",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="the built-in python tool, which runs the model's code in a kernel on this machine; "
        "its working folder is a temporary one by default",
    )
    group.add_argument(
        "--browser",
        nargs="?",
        const="",
        metavar="SEARCH",
        help="the built-in browser; SEARCH is a folder of files, the URL of a service that answers "
        "with JSON, or a search provider as MODULE:NAME; without it, the browser only opens pages",
    )
    group.add_argument(
        "--browser-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the search service or folder, such as results=data.items; "
        "may be repeated",
    )
    group.add_argument(
        "--browser-allow",
        action="append",
        default=[],
        metavar="HOST",
        help="a host, network or host:port outside the public internet that may be opened; "
        "may be repeated",
    )
    group.add_argument(
        "--mcp",
        action="append",
        default=[],
        metavar="COMMAND|URL",
        help="an MCP server: the command that starts it, or its URL; may be repeated",
    )


class OpenedTools(NamedTuple):
    """Open tools.

    Attributes:
        toolbox: All tools.
        browser: The browser, if there is one.
        python: The python tool, if there is one; its kernel starts with the first cell.
    """

    toolbox: Toolbox
    browser: BrowserTool | None = None
    python: PythonTool | None = None


@asynccontextmanager
async def opened_tools(
    options: Namespace, *, policy: ToolPolicy | None = None
) -> AsyncIterator[OpenedTools]:
    """Open the tools of a command line, and close them at the end.

    Raises:
        HarmonyError: A tool cannot be opened; the error names the argument.
    """
    values: list[Any] = [_tool(reference) for reference in options.tool]
    browser = _browser(options)
    if browser is not None:
        values.append(browser)
    python: PythonTool | None = None
    if options.python is not None:
        from ..builtins.python import PythonTool

        python = PythonTool(options.python or None)
        values.append(python)
    for server in options.mcp:
        from ..tools._mcp import McpTools

        values.append(McpTools(server if server.startswith(_WEB) else _words(server)))
    async with AsyncExitStack() as stack:
        for value in values:
            if hasattr(type(value), "__aenter__"):
                await stack.enter_async_context(value)
        toolbox = await stack.enter_async_context(Toolbox(values, policy=policy))
        yield OpenedTools(toolbox, browser, python)


def _tool(reference: str) -> Any:
    value = imported("--tool", reference)
    # A source may not know its tools before it is opened.
    is_known = isinstance(value, Tool | ToolNamespace) or callable(value)
    if not is_known and not hasattr(value, "is_builtin"):
        raise ToolError(f"--tool {reference}: not a function")
    return value


def _words(command: str) -> list[str]:
    """The words of a command, as in a shell."""
    try:
        words = shlex.split(command, posix=os.name != "nt")
    except ValueError as error:
        raise ToolError(f"--mcp {command}: {error}") from None
    if not words:
        raise ToolError("--mcp: expected a command or a URL")
    return words


def imported(argument: str, reference: str) -> Any:
    """The object that MODULE:NAME names.

    Raises:
        ToolError: It does not exist.
    """
    module_name, colon, name = reference.partition(":")
    if not colon:
        raise ToolError(f"{argument} {reference}: expected MODULE:NAME")
    if "" not in sys.path:
        sys.path.insert(0, "")  # like `python -m`
    try:
        return attrgetter(name)(importlib.import_module(module_name))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ToolError(f"{argument} {reference}: {reason}") from error


# --- The browser ----------------------------------------------------------------------------


def _browser(options: Namespace) -> BrowserTool | None:
    if options.browser is None:
        if options.browser_option or options.browser_allow:
            raise ToolError("--browser-option and --browser-allow are for --browser")
        return None
    from ..builtins.browser import BrowserTool, WebFetcher

    settings = dict(setting("--browser-option", text) for text in options.browser_option)
    search = _search(options.browser, settings)
    return BrowserTool(search, WebFetcher(allow=options.browser_allow))


def _search(source: str, settings: dict[str, Any]) -> SearchProvider | None:
    """The search provider: a folder, a service, or a Python object."""
    from ..builtins.browser import HttpSearch, LocalSearch

    if not source:
        _refuse(settings, "--browser without a place to search")
        return None
    if source.startswith(_WEB):
        return _made(HttpSearch, source, settings)
    if Path(source).is_dir():
        return _made(LocalSearch.from_folder, source, settings)
    if ":" not in source:
        raise ToolError(f"--browser {source}: expected a folder, a URL or MODULE:NAME")
    _refuse(settings, f"--browser {source}")
    return _programmed(source)


def _made(
    make: Callable[..., SearchProvider], source: str, settings: dict[str, Any]
) -> SearchProvider:
    try:
        return make(source, **settings)
    except HarmonyError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise ToolError(f"--browser-option: {error}") from error


def _refuse(settings: dict[str, Any], what: str) -> None:
    if settings:
        raise ToolError(f"--browser-option {next(iter(settings))}: {what} has no options")


def _programmed(reference: str) -> SearchProvider:
    from ..builtins.browser import SearchProvider

    value = imported("--browser", reference)
    if not isinstance(value, SearchProvider) or isinstance(value, type):
        if not callable(value):
            raise ToolError(
                f"--browser {reference}: not a search provider or a function that makes one"
            )
        try:
            value = value()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ToolError(f"--browser {reference}: {reason}") from error
    if not isinstance(value, SearchProvider):
        raise ToolError(f"--browser {reference}: not a search provider")
    return value
