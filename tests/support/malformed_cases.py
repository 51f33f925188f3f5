"""The collected cases of what models really emit, by their names."""

import json
from pathlib import Path

CASES = {
    case["id"]: case
    for file in sorted((Path(__file__).parents[1] / "data" / "malformed").glob("*.json"))
    for case in json.loads(file.read_text("utf-8"))["cases"]
}
