"""`modelkit passes`: what is installed, with its options."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from modelkit.core import passes
from modelkit.core.errors import ModelkitError

from .options import Json, Quiet, ReportFile, Verbose
from .session import Session


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this one, or those of a family: quantize.rtn, lowrank.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    report: ReportFile = None,
) -> None:
    """Show the installed algorithms and their options."""
    with Session("passes", json=json, quiet=quiet, verbose=verbose, reports=report) as session:
        found = [known for known in passes.installed() if name is None or f"{known}.".startswith(f"{name}.")]
        if not found:
            raise ModelkitError(f"There is no pass {name!r}.", f"Installed: {', '.join(passes.installed())}.")
        session.report["available"] = [_described(known) for known in found]


def _described(name: str) -> dict[str, Any]:
    try:
        kind = passes.load(name)
    except ModelkitError as error:  # a broken plugin is shown as such and hides no other
        return {"name": name, "summary": f"broken: {error.what}", "options": []}
    return {"name": name, "summary": kind.summary, "options": [asdict(option) for option in passes.options_of(kind)]}
