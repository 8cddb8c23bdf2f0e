"""``python -m pytest_trustllm.cli``: the command, where scripts are not on the path."""

from __future__ import annotations

import sys

from pytest_trustllm.cli import main

sys.exit(main())
