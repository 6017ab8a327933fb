"""`python -m activations`: the command."""

import sys

from activations.cli import main

sys.exit(main())
