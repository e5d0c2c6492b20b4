"""`modelkit lowrank`: read the options, hand over to `modelkit.lowrank`, show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from modelkit.core.errors import ModelkitError

from .data_argument import Reading, example_rows
from .model_argument import model_path
from .options import (
    Arch,
    Device,
    DryRun,
    Force,
    Ignore,
    InputSpec,
    Json,
    Label,
    Mean,
    ModelArgument,
    Only,
    Out,
    PassOption,
    Quiet,
    ReportFile,
    Samples,
    Scale,
    Seed,
    Std,
    Tokenizer,
    Trust,
    Verbose,
    parse_bindings,
    parse_drops,
    parse_pairs,
)
from .session import Session

_ENOUGH = 512  # calibration samples that are used unless --num-samples says more


def command(
    model: ModelArgument,
    out: Out = None,
    rank: Annotated[int | None, typer.Option("--rank", metavar="N", help="Rank of every layer.")] = None,
    energy: Annotated[
        float | None, typer.Option("--energy", metavar="0.95", help="Share of every layer's output that its rank must keep.")
    ] = None,
    params: Annotated[float | None, typer.Option("--params", metavar="0.5", help="Share of the parameters that stay.")] = None,
    macs: Annotated[
        float | None, typer.Option("--macs", metavar="0.5", help="Share of the multiply-accumulates that stay.")
    ] = None,
    speedup: Annotated[
        float | None, typer.Option("--speedup", metavar="1.3", help="How much faster, measured on this machine.")
    ] = None,
    always: Annotated[
        bool, typer.Option("--always", help="Factorise layers that get smaller but no faster on this machine, too.")
    ] = False,
    algorithm: Annotated[str, typer.Option("--algorithm", help="What an error counts; see `modelkit passes`.")] = "auto",
    round_to: Annotated[
        int, typer.Option("--round-to", metavar="N", min=1, help="Ranks under a budget are multiples of this.")
    ] = 8,
    min_speedup: Annotated[
        float | None, typer.Option("--min-speedup", metavar="1.2", min=0.0, help="Fail if the result is not so much faster.")
    ] = None,
    calib: Annotated[
        str | None, typer.Option("--calib", metavar="DATA", help="Calibration data: what the activations are, errors.")
    ] = None,
    max_drop: Annotated[
        list[str] | None, typer.Option("--max-drop", metavar="METRIC=DROP", help="Fail if quality falls by more.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Evaluation data for --max-drop.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of measurements.")] = None,
    ignore: Ignore = None,
    only: Only = None,
    option: PassOption = None,
    device: Device = "cpu",
    trust: Trust = False,
    arch: Arch = None,
    input: InputSpec = None,
    num_samples: Samples = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    label: Label = None,
    tokenizer: Tokenizer = None,
    seed: Seed = 0,
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    report: ReportFile = None,
) -> None:
    """Replace layers by chains of narrower ones (low-rank factorisation)."""
    from modelkit.core import passes
    from modelkit.core.selection import Selection
    from modelkit.describe import describe, total_bytes
    from modelkit.lowrank.pipeline import lowrank
    from modelkit.lowrank.planning import Factorisation, plan_lowrank
    from modelkit.models.opening import open_model
    from modelkit.publish import check_output, output_path
    from modelkit.result import planned_records

    with Session("lowrank", json=json, quiet=quiet, verbose=verbose, reports=report, device=device) as session:
        budget = _budget({"rank": rank, "energy": energy, "params": params, "macs": macs, "speedup": speedup})
        gates = parse_drops(max_drop, data)
        if algorithm == "auto":
            algorithm = "svd" if calib is None else "refit"
        name = algorithm if algorithm.startswith("lowrank.") else f"lowrank.{algorithm}"
        chosen: Any = passes.build(name, parse_pairs(option))
        selection = Selection(tuple(ignore or ()), tuple(only or ()))
        wanted = Factorisation(name, chosen, budget, always, round_to, selection, seed, threads)
        path = model_path(model)
        with session.stage(f"opening {path.name}"):
            opened = open_model(path, trust=trust, arch=arch, bindings=parse_bindings(input), example=example_rows(calib))
        target = output_path(opened.path, opened.family, "lowrank", out)
        check_output(target, opened.files(), total_bytes(opened.files()), force)
        reading = Reading(num_samples, seed, scale, mean, std, label, tokenizer)
        samples = None if calib is None else reading.open_some(calib, opened, _ENOUGH)
        plan = plan_lowrank(opened, wanted, samples)
        evaluation = None if data is None else reading.open(data, opened, all_samples=True)
        session.report["inputs"] = [describe(opened)]
        entry = {"pass": name, "options": wanted.options()}
        if dry_run:
            planned = planned_records(opened.graph, plan.skipped, "low rank, where it pays")
            session.report["passes"] = [{**entry, "seconds": 0.0, "layers": [asdict(layer) for layer in planned]}]
            session.note(f"dry run: {target} was not written")
            return
        result = lowrank(opened, wanted, plan, samples, target, session.stage)
        session.report["output"] = describe(result.model, target)
        session.report["passes"] = [{**entry, **result.record()}]
        if evaluation is not None:
            from .gates import check_drops

            session.exit_code = check_drops(session, opened, result.model, evaluation, gates, device, threads, seed)
        if min_speedup is not None:
            from .gates import exit_code, speed_gate

            session.report["gates"].append(speed_gate(opened, result.model, min_speedup, result.speedup, threads, seed))
            session.exit_code = exit_code(session.report["gates"])


def _budget(given: dict[str, float | None]) -> Any:
    """The one budget that was given. Raises ModelkitError for none, several, or one out of its bounds."""
    from modelkit.core.pruning import Budget

    from .prune import check_share, only_one

    advice = "Give one of --rank 64, --energy 0.95, --params 0.5, --macs 0.5 or --speedup 1.3."
    measure, value = only_one(given, "How far to go is not said", advice)
    if measure == "rank" and value < 1:
        raise ModelkitError(f"--rank {value:g} is no rank.", "Give a whole number from 1 on, below the layers' full rank.")
    if measure == "energy" and not 0 < value <= 1:
        raise ModelkitError(f"--energy {value:g} is not above 0 and at most 1.", "Give a share, say --energy 0.95.")
    if measure in ("params", "macs", "speedup"):
        check_share(measure, value)
    return Budget(measure, value)  # type: ignore[arg-type]
