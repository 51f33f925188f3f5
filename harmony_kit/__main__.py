"""`python -m harmony_kit` is the command harmony-kit."""

import sys

from .cli import main

sys.exit(main())
