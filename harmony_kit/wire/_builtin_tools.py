"""The tools that gpt-oss was trained with, as a system message declares them.

The texts are part of the format (section "Built-in tools") and must not change, because the model
was trained on them. To run the tools, see `harmony_kit.builtins`.
"""

from __future__ import annotations

from typing import Any, Final

from ._contents import Tool, ToolNamespace


def _number(default: int) -> dict[str, Any]:
    return {"type": "number", "default": default}


_TEXT: Final[dict[str, Any]] = {"type": "string"}

BROWSER: Final = ToolNamespace(
    "browser",
    description=(
        "Tool for browsing.\n"
        "The `cursor` appears in brackets before each browsing display: `[{cursor}]`.\n"
        "Cite information from the tool using the following format:\n"
        "`【{cursor}†L{line_start}(-L{line_end})?】`, for example: `【6†L9-L11】` or `【8†L3】`.\n"
        "Do not quote more than 10 words directly from the tool output.\n"
        "sources=web (default: web)"
    ),
    tools=(
        Tool(
            "search",
            "Searches for information related to `query` and displays `topn` results.",
            {
                "type": "object",
                "properties": {"query": _TEXT, "topn": _number(10), "source": _TEXT},
                "required": ["query"],
            },
        ),
        Tool(
            "open",
            "Opens the link `id` from the page indicated by `cursor` starting at line number "
            "`loc`, showing `num_lines` lines.\n"
            "Valid link ids are displayed with the formatting: `【{id}†.*】`.\n"
            "If `cursor` is not provided, the most recent page is implied.\n"
            "If `id` is a string, it is treated as a fully qualified URL associated with "
            "`source`.\n"
            "If `loc` is not provided, the viewport will be positioned at the beginning of the "
            "document or centered on the most relevant passage, if available.\n"
            "Use this function without `id` to scroll to a new location of an opened page.",
            {
                "type": "object",
                "properties": {
                    "id": {"type": ["number", "string"], "default": -1},
                    "cursor": _number(-1),
                    "loc": _number(-1),
                    "num_lines": _number(-1),
                    "view_source": {"type": "boolean", "default": False},
                    "source": _TEXT,
                },
            },
        ),
        Tool(
            "find",
            "Finds exact matches of `pattern` in the current page, or the page given by `cursor`.",
            {
                "type": "object",
                "properties": {"pattern": _TEXT, "cursor": _number(-1)},
                "required": ["pattern"],
            },
        ),
    ),
)
"""Searches, opens and reads web pages; calls go to the analysis channel."""

PYTHON: Final = ToolNamespace(
    "python",
    description=(
        "Use this tool to execute Python code in your chain of thought. The code will not be "
        "shown to the user. This tool should be used for internal reasoning, but not for code "
        "that is intended to be visible to the user (e.g. when creating plots, tables, or "
        "files).\n\n"
        "When you send a message containing Python code to python, it will be executed in a "
        "stateful Jupyter notebook environment. python will respond with the output of the "
        "execution or time out after 120.0 seconds. The drive at '/mnt/data' can be used to "
        "save and persist user files. Internet access for this session is UNKNOWN. Depends on "
        "the cluster."
    ),
)
"""Runs Python code in a notebook; calls go to the analysis channel."""
