"""Fetch the chat template of gpt-oss, beside which tests/convert/test_chat_template.py renders.

It comes with TRL (Apache-2.0), which ships the template of the model repository.

    python scripts/fetch_chat_template.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from fetched import FOLDER, download

VERSION = "1.16.0"
SHA256 = "c4726e139dd40e1a41661511c639c8a68416782b2e3e8c0befebd77bb7ba0396"
NAME = "trl/chat_templates/gptoss.jinja"


def fetch(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wheel = download(f"trl=={VERSION}", SHA256, Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            Path(scratch, target.name).write_bytes(archive.read(NAME))
        Path(scratch, target.name).rename(target)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "chat-template"
    template = folder / f"trl-{VERSION}.jinja"
    if not template.is_file():
        fetch(template)
    print(template)
