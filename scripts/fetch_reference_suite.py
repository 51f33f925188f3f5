"""Fetch openai-harmony's own test suite, which tests/compat/test_reference_suite.py runs.

It comes with the source distribution. pip asks a package's build backend for metadata before
it saves a download, and the real backend needs a Rust compiler for its answer; a stand-in
gives it instead. Nothing is built or installed.

    python scripts/fetch_reference_suite.py [FOLDER]
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from fetched import FOLDER, download

VERSION = "0.0.8"
SHA256 = "6e43f98e6c242fa2de6f8ea12eab24af63fa2ed3e89c06341fb9d92632c5cbdf"

BACKEND = f"""
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    name = "openai_harmony-{VERSION}.dist-info"
    Path(folder, name).mkdir()
    metadata = "Metadata-Version: 2.1\\nName: openai-harmony\\nVersion: {VERSION}\\n"
    Path(folder, name, "METADATA").write_text(metadata)
    return name
"""


def suite(folder: Path) -> Path:
    """The folder that holds the suite's `tests` and `test-data`, once it was fetched."""
    return folder / f"openai_harmony-{VERSION}"


def fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        Path(scratch, "maturin.py").write_text(BACKEND)
        archive = download(
            f"openai-harmony=={VERSION}",
            SHA256,
            Path(scratch),
            "--no-build-isolation",
            "--no-binary=:all:",
        )
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        suite(Path(scratch)).rename(suite(folder))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "reference-suite"
    if not suite(target).is_dir():
        fetch(target)
    print(suite(target))
