"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelkit.core.errors import ModelkitError

_COMMON = "Common options"
_MODEL = "How the model is read"
_DATA = "How the data is read"

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model file, a report that names one, or - for a report on standard input.")
]
Out = Annotated[
    Path | None, typer.Option("-o", "--out", metavar="OUT", help="Where the result goes; its extension chooses the format.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.", rich_help_panel=_COMMON)]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors and warnings.", rich_help_panel=_COMMON)]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Every layer; tracebacks.", rich_help_panel=_COMMON)]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.", rich_help_panel=_COMMON)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite OUT.", rich_help_panel=_COMMON)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do every check and print what would be done.", rich_help_panel=_COMMON)]
ReportFile = Annotated[
    list[Path] | None,
    typer.Option("--report", metavar="FILE.{json,md,html,xml}", help="Also write a report; repeatable.", rich_help_panel=_COMMON),
]
Device = Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where models run.", rich_help_panel=_COMMON)]
Trust = Annotated[bool, typer.Option("--trust", help="Allow a file whose loading can run code.", rich_help_panel=_MODEL)]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch", metavar="MODULE:FACTORY", help="What builds the module that a state dict belongs to.", rich_help_panel=_MODEL
    ),
]
InputSpec = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME:DTYPE[1,3,32,32]",
        help="Type and shape of an input where the file does not say.",
        rich_help_panel=_MODEL,
    ),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="GLOB|re:REGEX", help="Leave these layers alone; repeatable.")
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="GLOB|re:REGEX", help="Touch only these layers; repeatable.")]
PassOption = Annotated[list[str] | None, typer.Option("-p", metavar="KEY=VALUE", help="An option of the algorithm; repeatable.")]
Samples = Annotated[
    int | None,
    typer.Option("--num-samples", metavar="N", min=1, help="Take N samples, after a seeded shuffle.", rich_help_panel=_DATA),
]
Scale = Annotated[float | None, typer.Option("--scale", help="Images: x = (raw · scale − mean) / std.", rich_help_panel=_DATA)]
Mean = Annotated[str | None, typer.Option("--mean", metavar="M[,M,M]", help="Images: mean per channel.", rich_help_panel=_DATA)]
Std = Annotated[
    str | None, typer.Option("--std", metavar="S[,S,S]", help="Images: standard deviation per channel.", rich_help_panel=_DATA)
]

Label = Annotated[
    str | None, typer.Option("--label", metavar="NAME", help="The array or column that holds the labels.", rich_help_panel=_DATA)
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", metavar="FOLDER", help="The checkpoint folder whose tokenizer reads text.", rich_help_panel=_DATA
    ),
]

Bindings = dict[str, tuple[str, tuple[int, ...]]]


def parse_bindings(specs: list[str] | None) -> Bindings:
    """`NAME:DTYPE[1,3,32,32]`, `NAME[1,3,32,32]` or `NAME:DTYPE` → {name: (dtype or "", shape)}."""
    import re

    bindings: Bindings = {}
    for spec in specs or []:
        match = re.fullmatch(r"([^:\[\]]+)(?::([a-z]+\d*))?(?:\[([\d,\s]*)\])?", spec)
        if match is None or not (match[2] or match[3]):
            raise ModelkitError(
                f"{spec!r} is not an input specification.", "Write it as NAME:DTYPE[1,3,32,32], e.g. x:float32[1,3,224,224]."
            )
        shape = tuple(int(size) for size in (match[3] or "").split(",") if size.strip())
        bindings[match[1]] = (match[2] or "", shape)
    return bindings


def parse_pairs(pairs: list[str] | None, flag: str = "-p") -> dict[str, str]:
    """`KEY=VALUE` words as a dict."""
    found: dict[str, str] = {}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ModelkitError(f"{flag} {pair!r} has no value.", f"Write it as {flag} key=value.")
        found[key.strip()] = value.strip()
    return found


def parse_floats(text: str | None, flag: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ModelkitError(f"{flag} {text!r} is not a list of numbers.", f"Write it as {flag} 0.49,0.48,0.45.") from None


def preprocessing_from(scale: float | None, mean: str | None, std: str | None) -> Any:
    """A Preprocessing when any of the three was given, else None."""
    from modelkit.core.model import Preprocessing

    means, stds = parse_floats(mean, "--mean"), parse_floats(std, "--std")
    if scale is None and means is None and stds is None:
        return None
    if stds is not None and 0.0 in stds:
        raise ModelkitError("--std holds a zero.", "Give standard deviations above zero.")
    default = Preprocessing()
    return Preprocessing(default.scale if scale is None else scale, means or default.mean, stds or default.std)


def parse_drops(pairs: list[str] | None, data: str | None) -> dict[str, float]:
    """`METRIC=DROP` words. Raises ModelkitError when there is no data to measure on."""
    gates = {}
    for metric, value in parse_pairs(pairs, "--max-drop").items():
        try:
            gates[metric] = float(value)
        except ValueError:
            raise ModelkitError(
                f"--max-drop {metric}={value} is not a number.", "Write it as --max-drop accuracy=0.005."
            ) from None
    if gates and data is None:
        raise ModelkitError("--max-drop needs evaluation data.", "Give labelled data with --data DATA.")
    return gates
