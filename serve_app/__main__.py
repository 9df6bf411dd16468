"""`python -m serve_app` is `fastserve`, from a checkout that is not installed too."""

import sys

from serve_app.cli import main

sys.exit(main())
