"""Write docs/schema-keywords.md from the tables: `python scripts/keyword_table.py`."""

from pathlib import Path

from harmony_kit.grammar._schema import ENFORCED, FORMATS, RESTRICTING

INTRODUCTION = """\
# JSON Schema keywords

What constraints enforce of a JSON Schema. A keyword that an engine's grammar cannot say is a
`GrammarError` that names it; none is dropped in silence. Keywords that restrict nothing (`title`,
`description`, `default`, unknown ones) are passed over. Written by
`python scripts/keyword_table.py` from `harmony_kit/grammar/_schema.py`.

llguidance reads schemas itself. xgrammar and llama.cpp get rules that harmony-kit writes of them:
xgrammar's own reading of schemas (0.2.8) leaves out, without a word, `minLength` beside `pattern`,
`uniqueItems`, `dependentRequired`, `not`, `if`, what stands beside `$ref` and `anyOf`, all but
the first schema of `allOf`, and more; and its strings admit special tokens.
"""
EXACT = "numbers up to `2**53`, of 15 digits"
WITH_NUMBERS = (
    *("enum", "const", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
)
SOME = {
    "llguidance": dict.fromkeys(WITH_NUMBERS, EXACT),
    "rules": {
        "multipleOf": "`1` for integers",
        "minProperties": "at most as many as are required; `1` where none has a name",
        "maxProperties": "where no property has a name, or as many as there are",
        "uniqueItems": "`false`, or with `maxItems` 0 or 1",
        "oneOf": "schemas that exclude each other: types, constants, closed properties",
        "pattern": "alone; no look-around, back-references or flags",
        "format": "alone; see below",
        "$ref": "within the schema",
        "minimum": "whole numbers for `number`",
        "maximum": "whole numbers for `number`",
        "exclusiveMinimum": "whole numbers for `number`",
        "exclusiveMaximum": "whole numbers for `number`",
    },
}


def table():
    """The whole document."""
    columns = ["| keyword | llguidance | xgrammar, llama.cpp |", "|---|---|---|"]
    rows = [
        f"| `{keyword}` | {says('llguidance', keyword)} | {says('rules', keyword)} |"
        for keyword in sorted(RESTRICTING)
    ]
    formats = [
        f"| `{name}` | {mark(name in FORMATS['llguidance'])} | {mark(name in FORMATS['rules'])} |"
        for name in sorted(FORMATS["llguidance"] | FORMATS["rules"])
    ]
    heading = [
        "",
        "## Formats",
        "",
        "| format | llguidance | xgrammar, llama.cpp |",
        "|---|---|---|",
    ]
    return "\n".join([INTRODUCTION, *columns, *rows, *heading, *formats, ""])


def says(language, keyword):
    is_enforced = keyword in ENFORCED[language]
    note = SOME[language].get(keyword) if is_enforced else None
    return mark(is_enforced) + (f": {note}" if note else "")


def mark(is_enforced):
    return "enforced" if is_enforced else "refused"


if __name__ == "__main__":
    path = Path(__file__).parent.parent / "docs" / "schema-keywords.md"
    path.write_text(table(), "utf-8")
