"""Write docs/problems.md from the table of codes: `python scripts/problem_table.py`."""

from itertools import groupby
from pathlib import Path

from harmony_kit.wire._problems import PROBLEM_KINDS, Layer

INTRODUCTION = """\
# Problems

What lenient reading notices, by who notices it. Each is a
`Problem(code, span, message, detail, outside)`; with `strict=True` the first of them raises a
`ParseError` with the same code (calls never raise). Written by `python scripts/problem_table.py`
from `harmony_kit/wire/_problems.py`.
"""
TITLES = {
    Layer.HEADER: "One header",
    Layer.STRUCTURE: "Messages, and what stands between them",
    Layer.CONTENT: "One content",
    Layer.TURN: "A whole completion",
    Layer.TEXT: "Text instead of tokens",
    Layer.CALL: "Tool calls",
}


def table():
    """The whole document."""
    parts = [INTRODUCTION]
    for layer, kinds in groupby(PROBLEM_KINDS.items(), lambda item: item[1].layer):
        rows = [f"| `{code}` | {kind.meaning} | {kind.repair} |" for code, kind in kinds]
        heading = ["| code | what was found | what is done |", "|---|---|---|"]
        parts.append("\n".join([f"## {TITLES[layer]}", "", *heading, *rows, ""]))
    return "\n".join(parts).replace("<|", "<\\|").replace("|>", "\\|>")


if __name__ == "__main__":
    path = Path(__file__).parent.parent / "docs" / "problems.md"
    path.write_text(table(), "utf-8")
