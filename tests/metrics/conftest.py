from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest


@pytest.fixture
def values() -> Callable[..., list[Mapping[str, Any]]]:
    """Make observations out of values."""
    return lambda *found: [{"value": v, "group": {}} for v in found]
