"""`modelkit convert`: between formats, outputs checked equal."""

from __future__ import annotations

from typing import Annotated

import typer

from modelkit.core.errors import ModelkitError

from .model_argument import model_path
from .options import (
    Arch,
    DryRun,
    Force,
    InputSpec,
    Json,
    ModelArgument,
    Out,
    Quiet,
    ReportFile,
    Seed,
    Trust,
    Verbose,
    parse_bindings,
)
from .session import Session

_EXPECTED = 1e-3
_ON_GRIDS = 1e-2  # with 8-bit activations: a value between two steps of a grid may fall on either


def command(
    model: ModelArgument,
    out: Out = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance", help=f"Largest relative difference of the outputs; unset: {_EXPECTED:g}, int8 {_ON_GRIDS:g}."
        ),
    ] = None,
    trust: Trust = False,
    arch: Arch = None,
    input: InputSpec = None,
    seed: Seed = 0,
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    report: ReportFile = None,
) -> None:
    """Change the file format; outputs are checked equal."""
    from modelkit import __version__
    from modelkit.describe import describe, total_bytes
    from modelkit.models.opening import open_model
    from modelkit.publish import (
        check_output,
        comparable_batch,
        family_of,
        into_family,
        output_path,
        outputs_of,
        publish,
        relative_difference,
    )

    with Session("convert", json=json, quiet=quiet, verbose=verbose, reports=report) as session:
        path = model_path(model)
        if out is None:
            raise ModelkitError(
                "convert needs to know the format to write.", "Give the result's name with -o, ending in .onnx or .pt2."
            )
        with session.stage(f"opening {path.name}"):
            opened = open_model(path, trust=trust, arch=arch, bindings=parse_bindings(input))
        target = output_path(path, opened.family, "converted", out)
        check_output(target, opened.files(), 2 * total_bytes(opened.files()), force)
        session.report["inputs"] = [describe(opened)]
        if dry_run:
            session.note(f"would convert {path} ({opened.format}) to {target}")
            return
        with session.stage(f"converting to {target.suffix}"):
            converted = into_family(opened, family_of(target))
        batch = comparable_batch(opened, seed)
        with session.stage("checking outputs"):
            found = outputs_of(converted, batch)
            difference = relative_difference(outputs_of(opened, batch), found)
        allowed = tolerance if tolerance is not None else _ON_GRIDS if opened.provenance.target else _EXPECTED
        if not difference <= allowed:
            raise ModelkitError(
                f"The converted model computes something else (relative difference {difference:.1e}, allowed {allowed:.0e}).",
                "Nothing was written. Raise --tolerance if the model is this sensitive, or report it.",
            )
        converted.provenance.history = [
            *opened.provenance.history,
            {"pass": "convert", "options": {"from": opened.format, "to": target.suffix[1:]}, "modelkit": __version__},
        ]
        with session.stage("writing and checking"):
            published = publish(converted, target, batch, found)
        session.report["output"] = describe(published)
        session.note(f"{target}: outputs equal to {difference:.1e}")
