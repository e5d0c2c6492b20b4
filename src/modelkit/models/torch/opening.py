"""Open torch's files as ExportedPrograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.export import ExportedProgram

from ...core.errors import ModelkitError
from ...core.forms import Array
from .shapes import Bindings
from .stored import FILE


def open_program(
    path: Path, *, trust: bool, arch: str | None, bindings: Bindings | None, example: Mapping[str, Array] | None
) -> tuple[ExportedProgram, str, str]:
    """The program in a file, the file's format and the note that modelkit left in it ("" if none)."""
    extra = {FILE: ""}
    with path.open("rb") as file:
        exported = torch.export.load(file, extra_files=extra)
    return exported, "pt2", str(extra[FILE])
