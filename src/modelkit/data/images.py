"""A folder, or a .zip, of class folders of images; without class folders the images have no labels. Decoded batch by batch."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..core.errors import InputWarning, ModelkitError
from ..core.forms import Array
from ..core.graph import Input, Shape
from .columns import Source

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
Read = Callable[[str], bytes]


def read_folder(path: Path, inputs: Sequence[Input]) -> Source:
    names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
    return _read(path.name or str(path), names, lambda name: (path / name).read_bytes(), inputs)


def read_zip(path: Path, inputs: Sequence[Input]) -> Source:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelkitError(f"{path.name} is not a whole .zip file: {error}.", "Pack the class folders again.") from error
    return _read(path.name, [i.filename for i in archive.infolist() if not i.is_dir()], archive.read, inputs)


def _read(origin: str, names: Sequence[str], read: Read, inputs: Sequence[Input]) -> Source:
    images = sorted(n for n in names if _is_image(n))
    if not images:
        raise ModelkitError(
            f"{origin} holds no images.", f"Put images ({', '.join(sorted(EXTENSIONS))}) into one folder per class."
        )
    depth = _common_folders(images)
    parts = [PurePosixPath(n).parts[depth:] for n in images]
    loose = sum(len(p) == 1 for p in parts)
    if 0 < loose < len(parts):
        raise ModelkitError(
            f"{origin} has {loose} images beside its class folders.", "Put every image into the folder of its class."
        )
    classes = () if loose else tuple(sorted({p[0] for p in parts}))
    if all(c.isdecimal() for c in classes) and list(classes) != sorted(classes, key=int):
        message = f"{origin}: classes are counted in the sorted order of their folders ({', '.join(classes[:4])}, …)"
        warnings.warn(InputWarning(f"{message}; pad numbers with zeros to keep their order."), stacklevel=2)
    index = {c: i for i, c in enumerate(classes)}
    labels = np.array([index[p[0]] for p in parts], np.int64) if classes else None
    if len(inputs) != 1:
        raise ModelkitError(
            f"{origin} holds images, but the model has {len(inputs)} inputs.", f"Give an .npz with {', '.join(map(str, inputs))}."
        )
    size, channels = _size(inputs[0], origin, images[0], read)
    column = ImageColumn(origin, tuple(images), read, (*size, channels))
    return Source(origin, {inputs[0].name: column}, labels, classes or None)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in EXTENSIONS and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _common_folders(images: Sequence[str]) -> int:
    """How many folders from the top hold only one folder: in `data/val/cat/1.png` the classes are below `data/val`."""
    folders = [PurePosixPath(n).parts[:-1] for n in images]
    depth = 0
    while all(len(f) > depth + 1 for f in folders) and len({f[depth] for f in folders}) == 1:
        depth += 1
    return depth


def _size(wanted: Input, origin: str, first: str, read: Read) -> tuple[tuple[int, int], int]:
    """(height, width) and channels that the input takes. Free sizes are bound to those of the first image."""
    dims = wanted.dims[1:]
    fix = "Give an .npz with the arrays as the model wants them."
    if len(dims) == 1 and isinstance(dims[0], int) and isqrt(dims[0]) ** 2 == dims[0]:
        return (isqrt(dims[0]),) * 2, 1
    height: int | str
    width: int | str
    channels: int | str = 1
    if len(dims) == 2:
        height, width = dims
    elif len(dims) == 3 and dims[0] in (1, 3):
        channels, height, width = dims
    elif len(dims) == 3 and dims[2] in (1, 3):
        height, width, channels = dims
    else:
        raise ModelkitError(f"The images in {origin} do not fit input {wanted}, which is no image of 1 or 3 channels.", fix)
    if isinstance(height, str) or isinstance(width, str):
        found = _decode(origin, first, read, "RGB", None).shape
        size = f"{found[0]}×{found[1]}, the size of the first"
        warnings.warn(InputWarning(f"Input {wanted} has no fixed size: images in {origin} are brought to {size}."), stacklevel=2)
        height, width = (found[i] if isinstance(d, str) else d for i, d in enumerate((height, width)))
    return (int(height), int(width)), int(channels)


@dataclass(frozen=True)
class ImageColumn:
    """uint8 images of `shape` (height, width, channels), the shorter side resized and the centre cut out."""

    origin: str
    names: tuple[str, ...]
    read_bytes: Read
    shape: Shape
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    costly: bool = True

    @property
    def n(self) -> int:
        return len(self.names)

    def read(self, rows: Array) -> Array:
        height, width, channels = self.shape
        out = np.empty((len(rows), *self.shape), np.uint8)
        for i, row in enumerate(rows):
            image = _decode(self.origin, self.names[row], self.read_bytes, "L" if channels == 1 else "RGB", (height, width))
            out[i] = image.reshape(self.shape)
        return out


def _decode(origin: str, name: str, read: Read, mode: str, size: tuple[int, int] | None) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise ModelkitError("Reading images needs Pillow.", "pip install 'modelkit[images]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(read(name))) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"its pixels are {image.mode}, not 8-bit")
                picture = image.convert(mode)
        if size is not None and picture.size != (size[1], size[0]):
            picture = _fill(picture, size)
        return np.asarray(picture)
    except (
        OSError,
        ValueError,
        SyntaxError,
        zipfile.BadZipFile,
        RuntimeError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ModelkitError(
            f"Image {name} in {origin} can't be read: {str(error).rstrip('.')}.", "Remove it, or save it again as PNG."
        ) from error


def _fill(picture: Any, size: tuple[int, int]) -> Any:
    """The centre of (height, width), after the picture is resized until it just covers that."""
    height, width = size
    ratio = max(height / picture.height, width / picture.width)
    covered = max(width, round(picture.width * ratio)), max(height, round(picture.height * ratio))
    left, top = (covered[0] - width) // 2, (covered[1] - height) // 2
    return picture.resize(covered, resample=2).crop((left, top, left + width, top + height))  # 2: bilinear, antialiased
