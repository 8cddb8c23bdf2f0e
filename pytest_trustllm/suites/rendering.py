"""Templates over the fields of a sample's row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_trustllm.config import templates
from pytest_trustllm.errors import SuiteError, TrustLLMError


def rendered(template: str, row: Mapping[str, Any], where: str, **variables: object) -> str:
    """Return the text of a template.

    What a row or a variable holds is inserted as it is: a model's answer with ``{{ }}`` in it is never rendered.

    Args:
        template: Its text.
        row: Its fields are the template's variables.
        where: Names the sample in messages.
        variables: Further variables, which hide fields of the same name.

    Raises:
        SuiteError: It names a field that the row does not have, or fails in another way.
    """
    try:
        return templates.rendered(template, {**row, **variables})
    except TrustLLMError as e:
        raise SuiteError(f"{where}: {e}") from None
