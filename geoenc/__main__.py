"""``python -m geoenc`` is the command ``geoenc``."""

import sys

from geoenc.cli import main

sys.exit(main())
