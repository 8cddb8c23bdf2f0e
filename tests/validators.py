"""The JSON Schemas, ready to check a document."""

from __future__ import annotations

from jsonschema import Draft202012Validator

from pytest_trustllm import schemas
from pytest_trustllm.registry import Registry

VALIDATORS = {kind: Draft202012Validator(schemas.schema(kind, Registry())) for kind in schemas.KINDS}
