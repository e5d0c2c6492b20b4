"""`modelkit prune`: read the options, hand over to `modelkit.prune` (channels or zeros), show it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from modelkit.core.model import Model
    from modelkit.core.pruning import Budget
    from modelkit.prune.channels import Pruning, PruningPlan
    from modelkit.quantize.planning import Plan

_ENOUGH = 512  # calibration samples that are used unless --num-samples says more: more did not help


def command(
    model: ModelArgument,
    out: Out = None,
    sparsity: Annotated[
        float | None, typer.Option("--sparsity", metavar="0.5", help="Share of the weights (or channels) that go.")
    ] = None,
    macs: Annotated[
        float | None, typer.Option("--macs", metavar="0.5", help="Share of the multiply-accumulates that stay.")
    ] = None,
    params: Annotated[float | None, typer.Option("--params", metavar="0.5", help="Share of the parameters that stay.")] = None,
    speedup: Annotated[
        float | None, typer.Option("--speedup", metavar="1.5", help="How much faster, measured on this machine.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            metavar="unstructured|2:4|N:M|channel",
            help="What goes; channel makes models faster. Default: channel for --macs, --params, --speedup; else unstructured.",
        ),
    ] = None,
    algorithm: Annotated[str, typer.Option("--algorithm", help="How it is chosen what goes; see `modelkit passes`.")] = "auto",
    round_to: Annotated[
        int | None,
        typer.Option(
            "--round-to",
            metavar="N",
            min=1,
            help="Widths are multiples of this. Default: 8 for --speedup, as kernels work in blocks; else 1.",
        ),
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
    """Remove channels, heads and branches, or set weights to zero."""
    from modelkit.core.selection import Selection
    from modelkit.core.sparsity import Sparsity
    from modelkit.describe import describe, total_bytes
    from modelkit.models.opening import open_model
    from modelkit.publish import check_output, output_path

    with Session("prune", json=json, quiet=quiet, verbose=verbose, reports=report, device=device) as session:
        given = {"sparsity": sparsity, "macs": macs, "params": params, "speedup": speedup}
        if pattern and all(value is None for value in given.values()):
            given["sparsity"] = Sparsity.implied(pattern)
        budget = read_budget(given)
        pattern = _pattern(pattern, budget)
        gates = parse_drops(max_drop, data)
        selection = Selection(tuple(ignore or ()), tuple(only or ()))
        steps = _steps(pattern, budget, algorithm, parse_pairs(option), round_to, selection, calib is not None, seed, threads)
        path = model_path(model)
        with session.stage(f"opening {path.name}"):
            opened = open_model(path, trust=trust, arch=arch, bindings=parse_bindings(input), example=example_rows(calib))
        target = output_path(opened.path, opened.family, steps.suffix, out)
        check_output(target, opened.files(), total_bytes(opened.files()), force)
        reading = Reading(num_samples, seed, scale, mean, std, label, tokenizer)
        samples = None if calib is None else reading.open_some(calib, opened, _ENOUGH)
        with session.stage("finding what can go"):
            plan = steps.plan(opened, samples)
        evaluation = None if data is None else reading.open(data, opened, all_samples=True)
        session.report["inputs"] = [describe(opened)]
        entry = {"pass": steps.name, "options": steps.options()}
        if dry_run:
            session.report["passes"] = [{**entry, "seconds": 0.0, "layers": steps.planned(opened, plan)}]
            session.note(f"dry run: {target} was not written")
            return
        result = steps.carry_out(opened, plan, samples, target, session.stage)
        session.report["output"] = describe(result.model, target)
        session.report["passes"] = [{**entry, **result.record()}]
        if evaluation is not None:
            from .gates import check_drops

            session.exit_code = check_drops(session, opened, result.model, evaluation, gates, device, threads, seed)


def read_budget(given: dict[str, float | None]) -> Budget:
    """The one budget that was given. Raises ModelkitError for none, several, or one out of its bounds."""
    from modelkit.core.pruning import Budget

    advice = "Give one of --sparsity 0.5, --macs 0.5, --params 0.5 or --speedup 1.5."
    measure, value = only_one(given, "How much to prune is not said", advice)
    check_share(measure, value)
    return Budget(measure, value)  # type: ignore[arg-type]


def only_one(given: dict[str, float | None], unsaid: str, advice: str) -> tuple[str, float]:
    """The option that was given, by its name. Raises ModelkitError for none and for several."""
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        what = " and ".join(f"--{name}" for name in named) + " exclude each other" if named else unsaid
        raise ModelkitError(f"{what}.", advice)
    return next(iter(named.items()))


def check_share(measure: str, value: float) -> None:
    """Raises ModelkitError for a speed-up that is none, or another budget that is not between 0 and 1."""
    if measure == "speedup" and not 1 < value < float("inf"):
        raise ModelkitError(f"--speedup {value:g} is no speed-up.", "Give a factor above 1, say --speedup 1.5.")
    if measure != "speedup" and not 0 < value < 1:
        raise ModelkitError(f"--{measure} {value:g} is not between 0 and 1.", f"Give a share, say --{measure} 0.5.")


def _pattern(given: str | None, budget: Budget) -> str:
    if given is None:
        return "unstructured" if budget.measure == "sparsity" else "channel"
    if given != "channel" and budget.measure != "sparsity":
        raise ModelkitError(
            f"Zeros among the weights save no {budget.measure}.", "Use --pattern channel, or say how many go with --sparsity 0.5."
        )
    return given


def _steps(
    pattern: str,
    budget: Budget,
    algorithm: str,
    options: dict[str, Any],
    round_to: int | None,
    selection: Any,
    data: bool,
    seed: int,
    threads: int | None,
) -> Any:
    if pattern != "channel":
        return Zeros(pattern, budget.value, algorithm, options, selection, data, seed)
    from modelkit.core import passes
    from modelkit.prune.channels import Pruning

    if algorithm == "auto":
        algorithm = "obs" if data else "magnitude"
    name = algorithm if algorithm.startswith("prune.channel.") else f"prune.channel.{algorithm}"
    chosen: Any = passes.build(name, options)
    if round_to is None:
        round_to = 8 if budget.measure == "speedup" else 1
    return Channels(Pruning(name, chosen, budget, round_to, selection, seed, threads))


class Channels:
    """The steps of `--pattern channel`."""

    suffix = "pruned"

    def __init__(self, wanted: Pruning) -> None:
        self.wanted = wanted
        self.name, self.options = wanted.name, wanted.options

    def plan(self, opened: Model, samples: Any) -> PruningPlan:
        from modelkit.prune.channels import plan_pruning

        return plan_pruning(opened, self.wanted, samples)

    def planned(self, opened: Model, plan: PruningPlan) -> list[dict[str, Any]]:
        """What a dry run shows: which layers may lose channels (how many is only known when it is done)."""
        from modelkit.prune.channels import layer_records

        touched = {slot.node for group in plan.task.channels for slot in group.slots}
        records = layer_records(opened, plan.base, plan.skipped)
        return [
            asdict(replace(record, form="fewer channels", skipped=None) if record.name in touched else record)
            for record in records
        ]

    def carry_out(self, opened: Model, plan: PruningPlan, samples: Any, target: Path, stage: Any) -> Any:
        from modelkit.prune.channels import prune

        return prune(opened, self.wanted, plan, samples, target, stage)


class Zeros:
    """The steps of the other patterns."""

    def __init__(
        self, pattern: str, share: float, algorithm: str, options: dict[str, Any], selection: Any, data: bool, seed: int
    ) -> None:
        from modelkit.core import passes
        from modelkit.core.sparsity import Sparsity
        from modelkit.prune.zeros import Sparsification

        found = Sparsity.parse(share, pattern)
        if algorithm == "auto":
            algorithm = "sparsegpt" if data else "magnitude"
        self.name = algorithm if algorithm.startswith("prune.") else f"prune.{algorithm}"
        chosen: Any = passes.build(self.name, {**options, "sparsity": share, "pattern": pattern})
        self.wanted = Sparsification(self.name, chosen, selection, seed)
        self.options = self.wanted.options
        self.suffix = "sparse" if found.of is None else f"{found.kept}of{found.of}"

    def plan(self, opened: Model, samples: Any) -> Plan:
        from modelkit.prune.zeros import plan_sparsification

        return plan_sparsification(opened, self.wanted, calibrated=samples is not None)

    def planned(self, opened: Model, plan: Plan) -> list[dict[str, Any]]:
        from modelkit.result import planned_records

        return [asdict(record) for record in planned_records(opened.graph, plan.skipped, "sparse")]

    def carry_out(self, opened: Model, plan: Plan, samples: Any, target: Path, stage: Any) -> Any:
        from modelkit.prune.zeros import sparsify

        return sparsify(opened, self.wanted, plan, samples, target, stage)
