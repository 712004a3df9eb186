"""`python -m hnet_lm`: the command line, for launchers that want a module (torchrun)."""

import sys

from hnet_lm.cli.main import main

sys.exit(main())
