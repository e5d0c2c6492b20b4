"""`modelkit inspect`: layers, shapes, parameters, MACs, bytes, sparsity, history."""

from __future__ import annotations

from .model_argument import model_path
from .options import Arch, InputSpec, Json, ModelArgument, Quiet, ReportFile, Trust, Verbose, parse_bindings
from .session import Session


def command(
    model: ModelArgument,
    trust: Trust = False,
    arch: Arch = None,
    input: InputSpec = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    report: ReportFile = None,
) -> None:
    """Show layers, shapes, parameters, MACs and bytes."""
    from modelkit.describe import describe
    from modelkit.models.opening import open_model

    with Session("inspect", json=json, quiet=quiet, verbose=verbose, reports=report) as session:
        path = model_path(model)
        with session.stage(f"opening {path.name}"):
            opened = open_model(path, trust=trust, arch=arch, bindings=parse_bindings(input))
        with session.stage("reading weights"):
            session.report["inputs"] = [describe(opened)]
