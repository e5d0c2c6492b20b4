"""`modelkit quantize`: read the options, hand over to `modelkit.quantize`, show what came of it."""

from __future__ import annotations

import re
from dataclasses import asdict
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
    from modelkit.quantize.planning import Plan, Quantization

_ENOUGH = 128  # calibration samples that are used unless --num-samples says more: ranges do not move by then
_MODES = ("auto", "none", "dynamic", "static")


def command(
    model: ModelArgument,
    out: Out = None,
    bits: Annotated[int | None, typer.Option("--bits", help="Bits per weight: 8, 4, 3 or 2.")] = None,
    algorithm: Annotated[str, typer.Option("--algorithm", help="How weights are rounded; see `modelkit passes`.")] = "auto",
    activations: Annotated[
        str,
        typer.Option(
            "--activations", metavar="auto|none|dynamic|static", help="auto: static with --calib, else dynamic where it pays."
        ),
    ] = "auto",
    group_size: Annotated[
        int | None, typer.Option("--group-size", metavar="N", help="Weights per scale; 0: one per channel.")
    ] = None,
    sym: Annotated[bool | None, typer.Option("--sym/--asym", help="Centre the grids of weights on 0 or not.")] = None,
    scheme: Annotated[
        str | None, typer.Option("--scheme", metavar="W8A8|W4A16|…", help="Bits of weights and activations.")
    ] = None,
    calib: Annotated[
        str | None, typer.Option("--calib", metavar="DATA", help="Calibration data: ranges of activations, errors.")
    ] = None,
    calib_method: Annotated[
        str, typer.Option("--calib-method", metavar="minmax|percentile|entropy|mse", help="How ranges of activations are chosen.")
    ] = "mse",
    smooth: Annotated[
        bool, typer.Option("--smooth/--no-smooth", help="Spread outliers of activations over weights where that helps.")
    ] = True,
    target: Annotated[
        str, typer.Option("--target", metavar="auto|vnni|avx2|neon|cuda", help="The processor to lay the result out for.")
    ] = "auto",
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Leave layers alone that are measured faster as they are.")
    ] = True,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads of those measurements.")] = None,
    max_drop: Annotated[
        list[str] | None, typer.Option("--max-drop", metavar="METRIC=DROP", help="Fail if quality falls by more.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Evaluation data for --max-drop.")] = None,
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
    """Store weights (and activations) in 8 bits or fewer."""
    from modelkit.core.selection import Selection
    from modelkit.describe import describe, total_bytes
    from modelkit.models.opening import open_model
    from modelkit.publish import check_output, output_path
    from modelkit.quantize.pipeline import quantize
    from modelkit.quantize.planning import Quantization, plan_quantization

    with Session("quantize", json=json, quiet=quiet, verbose=verbose, reports=report, device=device) as session:
        weights, mode = _scheme(scheme, bits, activations)
        options = _pass_options(option, weights, group_size, sym)
        gates = parse_drops(max_drop, data)
        name = _name(algorithm, options)
        automatic = mode == "auto"
        mode = _resolve(mode, options, calib, name)
        aim = _target(target, device)
        if aim.reduce_range and mode != "none":
            options.setdefault("reduce_range", True)
        wanted = Quantization(
            name,
            _build(name, options, optional=("reduce_range",)),
            mode,
            aim,
            Selection(tuple(ignore or ()), tuple(only or ())),
            calib_method,
            smooth,
            measure,
            automatic,
            threads,
            seed,
        )
        path = model_path(model)
        with session.stage(f"opening {path.name}"):
            example = example_rows(calib)
            opened = open_model(path, trust=trust, arch=arch, bindings=parse_bindings(input), example=example)
        target_path = output_path(opened.path, opened.family, f"int{wanted.bits}", out)
        check_output(target_path, opened.files(), total_bytes(opened.files()), force)
        reading = Reading(num_samples, seed, scale, mean, std, label, tokenizer)
        samples = None if calib is None else reading.open_some(calib, opened, _ENOUGH)
        plan = plan_quantization(opened, wanted)
        evaluation = None if data is None else reading.open(data, opened, all_samples=True)
        session.report["inputs"] = [describe(opened)]
        if dry_run:
            session.report["passes"] = [_planned(opened, wanted, plan)]
            session.note(f"dry run: {target_path} was not written")
            return
        result = quantize(opened, wanted, plan, samples, target_path, session.stage)
        session.report["output"] = describe(result.model, target_path)
        session.report["passes"] = [{"pass": wanted.name, "options": wanted.options(), **result.record()}]
        if evaluation is not None:
            from .gates import check_drops

            session.exit_code = check_drops(session, opened, result.model, evaluation, gates, device, threads, seed)


def _scheme(scheme: str | None, bits: int | None, activations: str) -> tuple[int, str]:
    """Bits of weights and the mode of activations, from --scheme or from --bits and --activations."""
    if activations not in _MODES:
        raise ModelkitError(f"--activations {activations} is unknown.", f"Choose one of: {', '.join(_MODES)}.")
    if scheme is None:
        chosen = 8 if bits is None else bits
        if chosen not in (8, 4, 3, 2):
            raise ModelkitError(f"Weights of {chosen} bits are not supported.", "Choose --bits 8, 4, 3 or 2.")
        return chosen, activations
    match = re.fullmatch(r"[Ww](\d+)[Aa](\d+)", scheme)
    if match is None or int(match[1]) not in (8, 4, 3, 2) or int(match[2]) not in (8, 16, 32):
        raise ModelkitError(f"The scheme {scheme!r} is unknown.", "Choose W8A8, W8A16, W4A16, W3A16 or W2A16.")
    if bits is not None and bits != int(match[1]):
        raise ModelkitError(f"--scheme {scheme} and --bits {bits} contradict each other.", "Give one of them.")
    if int(match[2]) > 8:
        if activations not in ("auto", "none"):
            raise ModelkitError(f"--scheme {scheme} and --activations {activations} contradict each other.", "Give one of them.")
        return int(match[1]), "none"
    if int(match[1]) != 8:
        raise ModelkitError(
            f"{scheme}: no runtime here multiplies {match[1]}-bit weights with 8-bit activations.", "Choose W8A8 or W4A16."
        )
    if activations == "none":
        raise ModelkitError(f"--scheme {scheme} and --activations none contradict each other.", "Give one of them.")
    return 8, "w8a8" if activations == "auto" else activations


def _pass_options(pairs: list[str] | None, bits: int, group_size: int | None, sym: bool | None) -> dict[str, Any]:
    options: dict[str, Any] = {"bits": bits, **parse_pairs(pairs)}
    if group_size is not None:
        options["group_size"] = group_size
    if sym is not None:
        options["symmetric"] = sym
    return options


def _name(algorithm: str, options: dict[str, Any]) -> str:
    """The pass's full name."""
    if algorithm == "auto":
        algorithm = "rtn" if str(options["bits"]) == "8" else "mse"
    return algorithm if algorithm.startswith("quantize.") else f"quantize.{algorithm}"


def _resolve(mode: str, options: dict[str, Any], calib: str | None, name: str) -> Any:
    """What `auto` means for these options and this pass, and whether the others are possible."""
    from modelkit.core import passes

    fine = (
        str(options["bits"]) != "8"
        or int(options.get("group_size") or 0) > 0
        or options.get("symmetric") in (False, "false", "0")
    )
    if mode == "static" and calib is None:
        raise ModelkitError("--activations static needs the ranges of activations.", "Give calibration data with --calib DATA.")
    if mode in ("auto", "w8a8"):
        if mode == "auto" and (fine or passes.corrects(passes.load(name))):
            return "none"
        mode = "static" if calib is not None else "dynamic"
    if mode != "none" and fine:
        raise ModelkitError(
            "Integer kernels need 8-bit weights with one symmetric scale per channel.",
            "Drop --bits, --group-size and --asym, or use --activations none.",
        )
    return mode


def _target(name: str, device: str) -> Any:
    from modelkit.core.targets import TARGETS

    if name == "auto":
        from modelkit.bench.cpu import target_isa

        name = "cuda" if device.startswith("cuda") else target_isa()
        name = "avx2" if name == "other" else name  # its reduced range is right for any processor
    if name not in TARGETS:
        raise ModelkitError(f"--target {name} is unknown.", f"Choose one of: auto, {', '.join(TARGETS)}.")
    return TARGETS[name]


def _build(name: str, options: dict[str, Any], optional: tuple[str, ...]) -> Any:
    """The pass. Options in `optional` are dropped where it does not know them."""
    from modelkit.core import passes

    known = {option.name for option in passes.options_of(passes.load(name))}
    if "bits" not in known and str(options["bits"]) == "8":
        options = {key: value for key, value in options.items() if key != "bits"}
    return passes.build(name, {key: value for key, value in options.items() if key in known or key not in optional})


def _planned(opened: Model, wanted: Quantization, plan: Plan) -> dict[str, Any]:
    """The pass record of a dry run: what each layer would become."""
    from modelkit.result import LayerRecord, stored_bytes

    layers = []
    for layer in opened.graph.layers():
        mode = "static" if layer.name in plan.static else "dynamic" if layer.name in plan.dynamic else "weight only"
        if layer.name in plan.skipped:
            record = LayerRecord.of(layer, "dense", skipped=plan.skipped[layer.name])
        else:
            record = LayerRecord.of(layer, f"int{wanted.bits} ({mode})", stored_bytes(layer) * wanted.bits // 32)
        layers.append(asdict(record))
    return {"pass": wanted.name, "options": wanted.options(), "seconds": 0.0, "layers": layers}
