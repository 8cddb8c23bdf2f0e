"""Templates over the fields of a row, rendered in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_trustllm.config.templates import compiled
from pytest_trustllm.errors import SuiteError, one_line


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
        return str(compiled(template).render({**fields_of(row), **variables}))
    except Exception as e:  # noqa: BLE001 - a template is code of the suite's author; only its sample fails
        raise SuiteError(f"{where}: template {one_line(template, 80)!r}: {one_line(e)}") from None


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a template over a row.

    Fields of TrustLLM's files such as "modified knowledge" are not names in a Jinja2 template.
    """
    return {str(key).replace(" ", "_").replace("-", "_"): value for key, value in row.items()}
