"""The published JSON Schemas: of the report that commands write, and of the recipe that `modelkit run` reads."""

from __future__ import annotations

from typing import Any

from ..core.errors import ModelkitError
from .recipe import Recipe
from .records import SCHEMA, Report

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def report_schema() -> dict[str, Any]:
    """Every key is required but those that only one command each writes."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    optional = {"available", "advice", "recovery"}
    schema["required"] = [name for name in schema["required"] if name not in optional]
    return {"$schema": DIALECT, "$id": SCHEMA, **schema}


def recipe_schema() -> dict[str, Any]:
    return {"$schema": DIALECT, "$id": "modelkit/recipe-1", **Recipe.model_json_schema(by_alias=True, mode="validation")}


SCHEMAS = {"report": report_schema, "recipe": recipe_schema}


def json_schema(which: str) -> dict[str, Any]:
    if which not in SCHEMAS:
        raise ModelkitError(f"There is no schema {which!r}.", f"Choose one of: {', '.join(SCHEMAS)}.")
    return SCHEMAS[which]()
