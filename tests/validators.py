"""The JSON Schemas, ready to check a document."""

from __future__ import annotations

from jsonschema import Draft202012Validator

from pytest_trustllm.cli import json_schemas
from pytest_trustllm.registry import Registry

VALIDATORS = {kind: Draft202012Validator(json_schemas.schema(kind, Registry())) for kind in json_schemas.KINDS}
