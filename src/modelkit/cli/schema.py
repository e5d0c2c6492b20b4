"""`modelkit schema`: the JSON Schema of what modelkit writes and reads."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from .options import Json


def command(
    which: Annotated[str, typer.Argument(metavar="[report|recipe]", help="Which schema.")] = "report",
    json: Json = False,
) -> None:
    """Print the JSON Schema of the report or of recipes."""
    from modelkit.report.schema import json_schema

    print(json_module.dumps(json_schema(which), indent=2))
