"""Plugins: what a compressing pass is, and how it is found.

A pass is a class named by an entry point of the group `modelkit.passes`, `"quantize.rtn" = "package.module:Class"`. Built-in
passes take the same road. Finding a pass imports nothing; a broken plugin fails only when it is chosen.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol

from .errors import ModelkitError
from .forms import Array, WeightForm
from .graph import Node
from .lowrank import LowRank
from .statistics import InputMoments, Needs

GROUP = "modelkit.passes"


@dataclass(frozen=True)
class NoOptions:
    """Of a pass that has none."""


class Pass(Protocol):
    """Arithmetic for one layer at a time, with typed options.

    `Options` is a frozen dataclass; `field(metadata={"help": …, "bounds": (low, high)})` describes each option. `summary` is a
    line for people."""

    summary: ClassVar[str]
    Options: ClassVar[type]

    def __init__(self, options: Any) -> None: ...

    def skip(self, layer: Node) -> str | None:
        """None, or why this pass leaves the layer alone."""
        ...

    def compress(self, layer: Node, weight: Array) -> WeightForm:
        """The new form of the layer's weight, given in the neutral layout (out, in, *kernel)."""
        ...


class SparsityPass(Pass, Protocol):
    """A pass `prune.NAME` for patterns without structure. Its options have `sparsity` and `pattern`."""

    needs: ClassVar[Needs]

    def compress(self, layer: Node, weight: Array, moments: InputMoments | None = None) -> WeightForm:
        """`moments`: of the layer's inputs, as `analysis.products.inputs` gives them; None when the pass needs nothing."""
        ...


class CorrectingPass(Pass, Protocol):
    """A pass `quantize.NAME` that lets a narrow chain run beside a layer, to put right what its new form loses."""

    needs: ClassVar[Needs]

    def correct(self, layer: Node, weight: Array, form: WeightForm, moments: Array | None) -> LowRank | None:
        """The chain beside a layer whose `weight` is stored as `form`; None: there is none. moments: (in, in), the mean of x xᵀ
        of the layer's inputs as `analysis.products.inputs` gives them; None without data."""
        ...

    def store(self, factor: Array) -> WeightForm | None:
        """The form in which a factor of the chain is stored; None: as it is."""
        ...


def corrects(found: Pass | type[Pass]) -> bool:
    """Whether it is a CorrectingPass."""
    return hasattr(found, "correct")


@dataclass(frozen=True)
class Option:
    """One option of a pass, as `modelkit passes NAME` shows it."""

    name: str
    type: str
    default: Any
    bounds: tuple[Any, Any] | None
    help: str


def installed() -> dict[str, EntryPoint]:
    """Every pass by name, sorted, without importing any."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def load(name: str) -> type[Pass]:
    """Import the pass `name`, e.g. "quantize.rtn". Raises ModelkitError when it is unknown or broken."""
    found = installed()
    if name not in found:
        command, _, algorithm = name.rpartition(".")
        near = [known.rpartition(".")[2] for known in found if known.rpartition(".")[0] == command]
        raise ModelkitError(
            f"There is no algorithm {algorithm!r} for {command.replace('.', ' --pattern ')}.",
            f"Choose one of: auto, {', '.join(near)}." if near else "See `modelkit passes`.",
        )
    try:
        loaded = found[name].load()
    except Exception as error:  # whatever a plugin's import raises is the plugin's fault, and is told as such
        raise ModelkitError(
            f"The pass {name} can't be imported ({type(error).__name__}: {error}).",
            f"Repair or uninstall the package that provides {found[name].value}.",
        ) from error
    if not (dataclasses.is_dataclass(getattr(loaded, "Options", None)) and _works(loaded)):
        raise ModelkitError(
            f"{found[name].value} is not a pass.",
            "A pass is a class with `Options` (a dataclass), and `skip` and `compress`, or `prune`, or `metric`.",
        )
    return typing.cast("type[Pass]", loaded)


def _works(kind: Any) -> bool:
    return any(callable(getattr(kind, method, None)) for method in ("compress", "prune", "metric"))


def options_of(kind: type[Pass]) -> list[Option]:
    hints = typing.get_type_hints(kind.Options)
    return [
        Option(
            field.name,
            _type_name(hints[field.name]),
            None if field.default is MISSING else field.default,
            field.metadata.get("bounds"),
            field.metadata.get("help", ""),
        )
        for field in dataclasses.fields(kind.Options)
    ]


def build(name: str, given: Mapping[str, Any]) -> Pass:
    """The pass with the given options; strings (from the command line) are read as the option's type.

    Raises ModelkitError for an unknown option, a value of the wrong type, or one out of bounds."""
    kind = load(name)
    known = {option.name: option for option in options_of(kind)}
    hints = typing.get_type_hints(kind.Options)
    values = {}
    for key, value in given.items():
        key = key.replace("-", "_")
        if key not in known:
            raise ModelkitError(f"{name} has no option {key!r}.", f"Its options: {', '.join(known) or 'none'}.")
        values[key] = _read(name, known[key], hints[key], value)
    return kind(kind.Options(**values))


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _read(owner: str, option: Option, hint: Any, value: Any) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else (hint,)
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        if type(None) in kinds:
            return None
    kind = next(k for k in kinds if k is not type(None))
    try:
        if typing.get_origin(kind) is typing.Literal:
            if value not in typing.get_args(kind):
                raise ValueError
        elif kind is bool and isinstance(value, str):
            value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        else:
            value = kind(value)
    except (ValueError, TypeError, KeyError):
        raise ModelkitError(
            f"{value!r} is not a value for {owner}'s option {option.name} ({option.type}).", "Give it as -p key=value."
        ) from None
    if option.bounds is not None and not option.bounds[0] <= value <= option.bounds[1]:
        low, high = option.bounds
        raise ModelkitError(f"{owner}: {option.name}={value} is out of bounds.", f"Choose a value from {low} to {high}.")
    return value
