"""docs/malformed.md is what its script writes."""

import runpy
from pathlib import Path


def test_the_comparison_is_up_to_date(openai_harmony_encoding):
    root = Path(__file__).parents[2]
    script = runpy.run_path(str(root / "scripts" / "compare_malformed.py"))
    written = (root / "docs" / "malformed.md").read_text("utf-8")
    assert written == script["table"](openai_harmony_encoding)
