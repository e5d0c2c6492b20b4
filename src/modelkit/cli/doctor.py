"""`modelkit doctor`: what this machine can run, and what would make it faster."""

from __future__ import annotations

from .options import Json, Quiet, ReportFile, Verbose
from .session import Session


def command(json: Json = False, quiet: Quiet = False, verbose: Verbose = False, report: ReportFile = None) -> None:
    """Show what this machine can run, and what would make it faster."""
    from modelkit.bench.doctor import advice
    from modelkit.bench.environment import environment

    with Session("doctor", json=json, quiet=quiet, verbose=verbose, reports=report) as session:
        session.report["advice"] = advice(environment())
