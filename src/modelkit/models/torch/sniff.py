"""What a file that torch wrote is, by looking into it. Nothing is unpickled, and torch is not imported."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .pickles import imports, is_plain

Content = Literal["pt2", "torchscript", "module", "state_dict"]
_ZIP = b"PK\x03\x04"
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # The number that torch.save wrote first until torch 1.6, pickled.
_LEGACY_PICKLES = 4  # magic number, protocol version, system information, object
_LARGEST_PICKLE = 1 << 30


@dataclass(frozen=True)
class Sniffed:
    """What is in a file; `names` are those that its pickle would import beside the ones that rebuild tensors."""

    content: Content
    names: tuple[str, ...] = ()
    legacy: bool = False


def sniff(path: Path) -> Sniffed | None:
    """What a file is, or None if torch did not write it. Raises OSError, and ValueError that says how it is damaged."""
    with path.open("rb") as file:
        start = file.read(64)
        if start[:4] == _ZIP:
            return _sniff_zip(path)
        if start[:1] != b"\x80" or _LEGACY_MAGIC not in start:
            return None
        file.seek(0)
        try:
            return _of_names(imports(file.read(_LARGEST_PICKLE), _LEGACY_PICKLES), legacy=True)
        except ValueError:
            raise ValueError("it is cut short or damaged") from None


def _sniff_zip(path: Path) -> Sniffed | None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.partition("/")[2]: name for name in archive.namelist()}
            if "archive_format" in members and archive.read(members["archive_format"]) == b"pt2":
                return Sniffed("pt2")
            if "serialized_exported_program.json" in archive.namelist():
                return Sniffed("pt2", legacy=True)
            if "constants.pkl" in members and any(name.startswith("code/") for name in members):
                return Sniffed("torchscript")
            if "data.pkl" not in members:
                return None
            if archive.getinfo(members["data.pkl"]).file_size > _LARGEST_PICKLE:
                raise ValueError("its pickle is too large to look into")
            return _of_names(imports(archive.read(members["data.pkl"])))
    except zipfile.BadZipFile:
        raise ValueError("it is cut short or damaged") from None
    except (RuntimeError, NotImplementedError, EOFError):
        raise ValueError("it is a zip file that can't be read") from None


def _of_names(names: frozenset[str], *, legacy: bool = False) -> Sniffed:
    foreign = tuple(sorted(name.replace(" ", ".") for name in names if not is_plain(name)))
    return Sniffed("module" if foreign else "state_dict", foreign, legacy)
