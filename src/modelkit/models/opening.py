"""Open any model file. What it is is found by looking into it; torch is only imported for torch's files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ..core.errors import InputWarning, ModelkitError, SkippedWarning
from ..core.forms import Array
from ..core.graph import HIDDEN
from ..core.model import Model
from .torch.sniff import sniff

Bindings = Mapping[str, tuple[str, tuple[int, ...]]]
Family = Literal["onnx", "torch"]

_EXTENSIONS: dict[str, Family] = {
    ".onnx": "onnx",
    ".pt2": "torch",
    ".pt": "torch",
    ".pth": "torch",
    ".bin": "torch",
    ".ckpt": "torch",
}
_SUPPORTED = "Give an .onnx file, a .pt2, a TorchScript file, or a state dict with --arch."
_FOREIGN = (
    (0, b"GGUF", "a GGUF file, which is not supported"),
    (4, b"TFL3", "a TensorFlow Lite file, which is not supported"),
    (0, b"\x89HDF\r\n", "an HDF5 file (Keras), which is not supported"),
    (0, b"\x93NUMPY", "an array, not a model"),
    (0, b"\x1f\x8b", "a gzip archive, not a model"),
    (257, b"ustar", "a tar archive, not a model"),
    (0, b"\x89PNG", "an image, not a model"),
    (0, b"\xff\xd8\xff", "an image, not a model"),
    (0, b"%PDF", "a PDF, not a model"),
    (0, b"<!DOCTYPE", "a web page, not a model"),
    (0, b"<html", "a web page, not a model"),
    (0, b"ORTM", "an ORT-format file, which is not supported"),
)
_LFS = b"version https://git-lfs"


def open_model(
    path: Path | str, *, trust: bool = False, arch: str | None = None, bindings: Bindings | None = None,
    example: Mapping[str, Array] | None = None,
) -> Model:  # fmt: skip
    """Open a model file.

    trust: allow files whose loading can run code. arch: "module:factory" that a state dict belongs to. bindings: (dtype, dims) of
    inputs where the file leaves them open; example: arrays by input name, the batch first, used where there are no bindings.
    Raises ModelkitError for what is missing, unreadable, not a model or not supported. Warns (InputWarning) of a wrong extension.
    """
    path = Path(path)
    family = family_of(path)
    expected = _EXTENSIONS.get(path.suffix.lower())
    if expected is not None and expected != family:
        kind = "an ONNX model" if family == "onnx" else "a file written by torch"
        warnings.warn(f"{path} is {kind} by its content, and is opened as such; rename it.", InputWarning, stacklevel=2)
    model: Model
    if family == "onnx":
        from .onnx.model import OnnxModel

        model = OnnxModel.open(path, bindings, example)
    else:
        from .torch.model import TorchModel

        model = TorchModel.open(path, trust=trust, arch=arch, bindings=bindings, example=example)
    hidden = [node.name for node in model.graph.nodes if node.kind == "control" and node.skip]
    if hidden:
        message = (
            f"{', '.join(hidden)}: {HIDDEN}, stay as they are, and their MACs are not known. Export the branch that is used."
        )
        warnings.warn(message, SkippedWarning, stacklevel=2)
    return model


def family_of(path: Path) -> Family:
    """Which adapter a file is for. Raises ModelkitError where none is."""
    _check_is_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(512)
        sniffed = None if path.suffix == ".safetensors" else sniff(path)
    except PermissionError as error:
        raise ModelkitError(f"{path} can't be read: permission denied.", "Change the file's permissions.") from error
    except OSError as error:
        raise ModelkitError(f"{path} can't be read: {error.strerror or error}.", "Check the path.") from error
    except ValueError as error:
        raise ModelkitError(f"{path} can't be read: {error}.", "Download or export it again.") from error
    if not start:
        raise ModelkitError(f"{path} is empty.", "Download or export it again.")
    if start.startswith(_LFS):
        raise ModelkitError(f"{path} is a pointer of git-lfs, not the file itself.", "Fetch it with `git lfs pull`.")
    for offset, magic, what in _FOREIGN:
        if start[offset : offset + len(magic)] == magic:
            raise ModelkitError(f"{path} is {what}.", _SUPPORTED)
    if path.suffix == ".safetensors" or sniffed is not None:
        return "torch"
    if start[:4] == b"PK\x03\x04":
        what = "a Keras model, which is not supported" if path.suffix == ".keras" else "a zip file without a model in it"
        raise ModelkitError(f"{path} is {what}.", _SUPPORTED)
    if start[:1] == b"\x80":
        raise ModelkitError(f"{path} is a pickle that torch did not write.", _SUPPORTED)
    if path.suffix.lower() == ".onnx" or _looks_like_onnx(start):
        return "onnx"
    raise ModelkitError(f"{path} is not a model, or is damaged.", _SUPPORTED)


def _check_is_file(path: Path) -> None:
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise ModelkitError(f"{path} can't be read: {error.strerror or error}.", "Check the path.") from error
    if not exists:
        raise ModelkitError(f"{path} does not exist.", "Check the path.")
    if not is_folder:
        return
    if (path / "config.json").exists():
        raise ModelkitError(
            f"{path} is a Hugging Face checkpoint folder, which this version does not open.", "Export it to .onnx or .pt2 first."
        )
    raise ModelkitError(f"{path} is a folder without a config.json.", "Name the model file in it.")


def _looks_like_onnx(start: bytes) -> bool:
    """Whether bytes begin as a ModelProto: the IR version, then a producer, opsets or the graph."""
    return len(start) > 3 and start[0] == 0x08 and start[1] < 0x20 and start[2] in (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42)
