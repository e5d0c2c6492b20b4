"""Torch's archives with changed members."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None) -> Path:
    """Copy an archive with changed members."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        root = archive.namelist()[0].split("/")[0]
        for name in archive.namelist():
            copy.writestr(name, change(name, archive.read(name)))
        for name, data in (extra or {}).items():
            copy.writestr(f"{root}/{name}", data)
    return target


def torch_saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()
