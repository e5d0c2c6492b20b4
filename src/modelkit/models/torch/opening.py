"""Open torch's files as ExportedPrograms."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from ...core.errors import InputWarning, ModelkitError
from ...core.forms import Array
from .archive import dangers
from .exporting import example_inputs, export, forward_arguments, quiet
from .shapes import Bindings
from .sniff import Sniffed, sniff
from .state_dict import load_into, make_module, read_safetensors
from .stored import FILE
from .torchscript import open_torchscript

_DAMAGED = "Download or export it again."


def open_program(
    path: Path, *, trust: bool, arch: str | None, bindings: Bindings | None, example: Mapping[str, Array] | None
) -> tuple[ExportedProgram, str, str]:
    """The program in a file, the file's format and the note that modelkit left in it ("" if none). Raises ModelkitError."""
    if path.suffix == ".safetensors":
        module = make_module(path, arch)
        load_into(module, read_safetensors(path), path)
        return _export_module(module, path, bindings, example), "state_dict", ""
    sniffed = look(path)
    if sniffed.content == "pt2":
        exported, text = _open_pt2(path, trust, sniffed)
        _notice_training_mode(exported, path)
        return exported, "pt2", text
    if sniffed.content == "torchscript":
        return open_torchscript(path, bindings, example), "torchscript", ""
    if sniffed.content == "module" and arch is None:
        if not trust:
            names = ", ".join(sniffed.names[:3])
            raise ModelkitError(
                f"{path} is a pickle that imports {names}: loading it can run any code.",
                "Add --trust if you trust where it comes from.",
            )
        found = _unpickled(path, trust=True)
        if isinstance(found, nn.Module):
            return _export_module(found, path, bindings, example), "module", ""
    module = make_module(path, arch)
    load_into(module, _unpickled(path, trust=trust), path)
    return _export_module(module, path, bindings, example), "state_dict", ""


def look(path: Path) -> Sniffed:
    """What the file is. Raises ModelkitError if it can't be read or is not torch's."""
    try:
        sniffed = sniff(path)
    except ValueError as error:
        raise ModelkitError(f"{path} can't be read: {error}.", _DAMAGED) from error
    except OSError as error:
        raise ModelkitError(f"{path} can't be read: {error.strerror}.", "Check the path and its permissions.") from error
    if sniffed is None:
        raise ModelkitError(f"{path} is not a model that torch wrote.", "Give a .pt2, a TorchScript file or a state dict.")
    return sniffed


def _open_pt2(path: Path, trust: bool, sniffed: Sniffed) -> tuple[ExportedProgram, str]:
    if sniffed.legacy:
        raise ModelkitError(f"{path} was saved by an old torch.export.", "Load and save it again with torch 2.8 or later.")
    extra = {FILE: ""}
    with path.open("rb") as file:
        try:
            danger = next(dangers(file), None) if not trust else None
        except (RuntimeError, ValueError, KeyError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
            raise ModelkitError(f"{path} can't be read: it is cut short or damaged.", _DAMAGED) from error
        if danger:
            raise ModelkitError(
                f"{path} could run code when it is loaded: {danger}.", "Add --trust if you trust where it comes from."
            )
        file.seek(0)
        try:
            with quiet():
                exported = torch.export.load(file, extra_files=extra)
        except Exception as error:  # The loader raises whatever a damaged archive makes it stumble over.
            reason = (str(error).strip() or type(error).__name__).split("\n")[0][:200].rstrip(".")
            raise ModelkitError(f"{path} can't be loaded: {reason}.", _DAMAGED) from error
    return exported, str(extra[FILE])


def _export_module(
    module: nn.Module, path: Path, bindings: Bindings | None, example: Mapping[str, Array] | None
) -> ExportedProgram:
    names, required = forward_arguments(module)
    return export(module, example_inputs(names, required, bindings, example, str(path)), str(path))


def _unpickled(path: Path, *, trust: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # Unpickling raises whatever the pickle does.
        reason = str(error).strip().split("\n")[0][:160].rstrip(".")
        fix = "Check that what it imports can be imported here." if trust else "Add --trust if you trust where it comes from."
        raise ModelkitError(f"{path} can't be loaded: {reason}.", fix) from error


def _notice_training_mode(exported: ExportedProgram, path: Path) -> None:
    for node in exported.graph.nodes:
        name = str(node.target)
        training = (name.startswith("aten.batch_norm") and len(node.args) > 5 and node.args[5] is True) or (
            name.startswith("aten.dropout") and len(node.args) > 2 and node.args[2] is True
        )
        if training:
            message = f"{path} was exported in training mode ({name}); call eval() on the module and export it again."
            warnings.warn(message, InputWarning, stacklevel=3)
            return
