"""What :mod:`forked` imports before it forks: pytest, its plugins, and what nearly every run of ours needs."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys
import tempfile

import pytest

_GIVEN = os.environ["PYTHONPATH"].split(os.pathsep)
SEARCHED = [name for name in sys.path if name and name not in _GIVEN]
"""Where a Python without ``PYTHONPATH`` looks for modules."""

# never pytest_trustllm.engine.host: by it, tests tell the model host from a test process
_LAZY = (
    "jinja2",
    "pytest_trustllm.engine.client",
    "pytest_trustllm.plugin.gatherer",
    "pytest_trustllm.report.page.html",
    "scipy.special",
    "xdist.dsession",
    "xdist.workermanage",
)

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads should not be forked
os.environ.pop("PYTEST_ADDOPTS", None)
with tempfile.TemporaryDirectory() as _empty, contextlib.redirect_stdout(io.StringIO()):
    # by pytest itself, which wants to rewrite the assertions of its plugins and warns when they are imported already;
    # -VV configures none of them: some keep what they were configured with
    pytest.main(["-VV", f"--rootdir={_empty}", f"-c{os.devnull}", "-p", "no:hypothesispytest", "-p", "no:anyio"])
for _name in _LAZY:
    importlib.import_module(_name)
gc.collect()
gc.freeze()
