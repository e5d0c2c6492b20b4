"""The architectures' exports, written once per machine and user, and shared by every test process.

Exporting all of them takes about a minute and a half on one core; reading them back takes milliseconds and no torch.
`from tests.zoo_cache import zoo` in a conftest makes the fixture known.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

SOURCES = Path(__file__).parent / "architectures"
EXPORTERS = ("torch", "transformers", "onnx", "onnxscript", "onnx-ir")


class ZooCache:
    """Files of the architectures, made when first asked for. Copy them before writing beside them or changing them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pt2(self, name: str) -> Path:
        """`<name>.pt2`, as torch.export.save writes it."""
        return self._exports(name) / f"{name}.pt2"

    def onnx(self, name: str, external_data: bool = False) -> Path:
        """`<name>.onnx` with its weights inside or, with `external_data`, in `<name>.onnx.data` beside it."""
        return self._exports(name) / ("external" if external_data else ".") / f"{name}.onnx"

    def arrays(self, name: str) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Example inputs by name, and torch's outputs for them in order."""
        with np.load(self._exports(name) / f"{name}.npz") as stored:
            inputs = {key.removeprefix("input."): stored[key] for key in stored.files if key.startswith("input.")}
            return inputs, [stored[key] for key in sorted(stored.files) if key.startswith("output.")]

    def _exports(self, name: str) -> Path:
        """The folder of one network's files, written first where missing. It appears whole or not at all, kill or no kill."""
        final = self.folder / name
        if final.exists():
            return final
        # One lock per network: the workers of a parallel run then export different networks at the same time.
        with FileLock(self.folder / f"{name}.lock"):
            if not final.exists():
                partial = Path(tempfile.mkdtemp(prefix="partial-", dir=self.folder))
                try:
                    export(name, partial)
                    partial.rename(final)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
        return final


def export(name: str, folder: Path) -> None:
    """Write all forms of one network at once: they share the export, which is what takes time."""
    import torch

    from tests.architectures import ARCHITECTURES, export_onnx, export_pt2

    export_pt2(name, folder / f"{name}.pt2")
    export_onnx(name, folder / f"{name}.onnx")
    (folder / "external").mkdir()
    export_onnx(name, folder / "external" / f"{name}.onnx", external_data=True)
    example = ARCHITECTURES[name].example()
    with torch.no_grad():
        result = ARCHITECTURES[name].build()(*example.values())
    outputs = result if isinstance(result, tuple) else (result,)
    arrays = {f"input.{key}": value.numpy() for key, value in example.items()}
    arrays |= {f"output.{i:02}": value.numpy() for i, value in enumerate(outputs)}
    np.savez(folder / f"{name}.npz", **arrays)


def cache_folder() -> Path:
    """A private folder, a new one whenever the networks' sources or the exporting packages change.

    Under the system's temporary folder and not pytest's cache, so that fresh clones share it. Opening a `.pt2` can run code, so a
    folder that somebody else could have written is not used.
    """
    digest = hashlib.sha256(" ".join(f"{package} {version(package)}" for package in EXPORTERS).encode())
    for source in (Path(__file__), *sorted(SOURCES.glob("*.py"))):
        digest.update(source.read_bytes())
    root = Path(tempfile.gettempdir()) / f"modelkit-zoo-{getpass.getuser()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and (root.is_symlink() or root.stat().st_uid != os.getuid() or root.stat().st_mode & 0o022):
        root = Path(tempfile.mkdtemp(prefix="modelkit-zoo-"))
    folder = root / digest.hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def zoo() -> ZooCache:
    """Exports of the architectures: `zoo.onnx("resnet")`, `zoo.pt2("bert")`, `zoo.arrays("llama")`."""
    return ZooCache(cache_folder())
