"""Pack a published o200k_base.tiktoken file into the form that the package carries.

python scripts/build_vocabulary.py o200k_base.tiktoken
"""

import hashlib
import sys
import zlib
from base64 import b64decode
from pathlib import Path

SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
SEPARATOR = b"\xff\xfe"
TARGET = Path(__file__).parents[1] / "harmony_kit" / "data" / "o200k_base.ranks.zlib"


def main() -> None:
    published = Path(sys.argv[1]).read_bytes()
    digest = hashlib.sha256(published).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{sys.argv[1]}: SHA-256 is {digest}, not {SHA256}")
    ranks = [b64decode(line.split()[0]) for line in published.splitlines()]
    packed = SEPARATOR.join(ranks)
    if packed.split(SEPARATOR) != ranks:
        raise SystemExit("the separator does not separate these tokens")
    TARGET.write_bytes(zlib.compress(packed, 9))
    print(f"{TARGET}: {len(ranks)} tokens, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
