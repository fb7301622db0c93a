"""`python -m ferroformer` is the command `ferroformer`."""

import sys

from .cli import main

sys.exit(main())
