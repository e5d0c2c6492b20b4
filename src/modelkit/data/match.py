"""Which column of the data is which input of the model, and how it is turned into it. All of it is checked before any work."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..core.errors import InputWarning, ModelkitError
from ..core.graph import Input
from ..core.model import Preprocessing
from ..core.names import identifier
from .columns import Column, Source, describe, describe_all
from .convert import Conversion, channel_axis, is_float, numpy_dtype, why_not
from .layout import fit


def match(source: Source, inputs: Sequence[Input], preprocessing: Preprocessing | None) -> tuple[Conversion, ...]:
    """One conversion per model input. Raises ModelkitError naming the inputs that are expected and what was given instead."""
    expected = ", ".join(map(str, inputs))
    names = {i.name: _column_for(i, source, inputs, expected) for i in inputs}
    lengths = {source.columns[column].n for column in names.values()}
    if len(lengths) > 1:
        raise ModelkitError(
            f"The inputs in {source.origin} have different numbers of samples ({describe_all(source.columns)}).",
            "Give every input the same first dimension.",
        )
    if lengths == {0}:
        raise ModelkitError(f"{source.origin} holds no samples.", f"Give at least one sample of {expected}.")
    conversions = tuple(_conversion(i, names[i.name], source, preprocessing) for i in inputs)
    _check_symbols(conversions, source)
    unused = [*source.ignored, *(name for name in source.columns if name not in names.values())]
    if unused:
        warnings.warn(
            InputWarning(f"{source.origin}: {', '.join(unused)} not used, as the model has no such input."), stacklevel=2
        )
    return conversions


def _column_for(wanted: Input, source: Source, inputs: Sequence[Input], expected: str) -> str:
    if wanted.name in source.columns:
        return wanted.name
    alike = [column for column in source.columns if identifier(column) == identifier(wanted.name)]
    if len(alike) == 1:  # the name that it has in another format
        return alike[0]
    if len(inputs) == 1:
        if "x" in source.columns:
            return "x"
        if len(source.columns) == 1:
            return next(iter(source.columns))
    raise ModelkitError(
        f"{source.origin} has no data for input {wanted} (it holds {describe_all(source.columns)}).",
        f"Name its arrays as the model's inputs: {expected}.",
    )


def _conversion(wanted: Input, name: str, source: Source, preprocessing: Preprocessing | None) -> Conversion:
    column = source.columns[name]
    given = describe(name, column.n, column.shape, column.dtype)
    dtype = numpy_dtype(wanted.dtype)
    if reason := why_not(column.dtype, dtype):
        raise ModelkitError(f"{given} in {source.origin} does not fit input {wanted}: {reason}.", f"Give {wanted.dtype} values.")
    if not wanted.dims:
        raise ModelkitError(
            f"Input {wanted} has no batch dimension.", "Make it a constant of the model; data gives one value per sample."
        )
    layout = fit(column.shape, wanted.dims[1:])
    if layout is None:
        sample = ",".join(map(str, ("samples", *wanted.dims[1:])))
        raise ModelkitError(f"{given} in {source.origin} does not fit input {wanted}.", f"Give an array of shape [{sample}].")
    if layout.assumed:
        warnings.warn(
            InputWarning(f"{given} in {source.origin} for input {wanted}: {layout.assumed}; store it as {wanted} to be sure."),
            stacklevel=2,
        )
    scaled = None
    if is_float(dtype) and column.dtype == "uint8":
        scaled = _preprocessing(preprocessing, given, source.origin)
        _check_channels(scaled, column, layout.channel_axis, given, source.origin)
    elif is_float(dtype) and column.dtype.kind in "iu":
        warnings.warn(
            InputWarning(f"{given} in {source.origin} was given to {wanted} unscaled; store uint8 to have images scaled."),
            stacklevel=2,
        )
    return Conversion(wanted, name, source.origin, layout, dtype, scaled)


def _preprocessing(known: Preprocessing | None, given: str, origin: str) -> Preprocessing:
    if known is None:
        message = (
            f"{given} in {origin} was divided by 255, as neither --scale/--mean/--std nor the model states its preprocessing."
        )
        warnings.warn(InputWarning(message), stacklevel=2)
    return known or Preprocessing()


def _check_channels(how: Preprocessing, column: Column, told: int | None, given: str, origin: str) -> None:
    if any(value == 0 for value in how.std):
        raise ModelkitError("The preprocessing has a standard deviation of 0.", "Give --std with numbers above 0.")
    for flag, values in (("--mean", how.mean), ("--std", how.std)):
        if len(values) != 1 and channel_axis(column.shape, len(values), told) is None:
            raise ModelkitError(
                f"{flag} has {len(values)} values, which fits no channel dimension of {given} in {origin}.",
                f"Give {flag} one value, or one per channel.",
            )


def _check_symbols(conversions: Sequence[Conversion], source: Source) -> None:
    """A symbol that several inputs share (a sequence length, say) must have one size."""
    sizes: dict[str, tuple[int, Input]] = {}
    for conversion in conversions:
        shape = conversion.layout.of(source.columns[conversion.column].shape)
        for size, dim in zip(shape, conversion.input.dims[1:], strict=True):
            if not isinstance(dim, str):
                continue
            known, other = sizes.setdefault(dim, (size, conversion.input))
            if known != size:
                raise ModelkitError(
                    f"{dim!r} is {known} for input {other} but {size} for input {conversion.input} in {source.origin}.",
                    "Give both the same size.",
                )
