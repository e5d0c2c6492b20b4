"""The models of the benchmark, with calibration data that every tool gets as the same file, and the data they are tested on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sample_models.datasets import CIFAR_MEAN, CIFAR_STD

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "benchmarks" / "models"
CALIBRATION_SAMPLES = 256
BATCH = 50

Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """`trained_by`: script and arguments. `data`: prefix of the files with calibration and test samples; None: CIFAR-10."""

    name: str
    title: str
    model: Path
    trained_by: tuple[str, ...]
    data: Path | None = None
    encoder: bool = False


def _benchmark_model(name: str, title: str, *, own_data: bool = False, encoder: bool = False) -> Case:
    script = ("benchmarks/train_models.py", name)
    return Case(name, title, MODELS / f"{name}.onnx", script, MODELS / name if own_data else None, encoder)


CASES = (
    Case("cifar-cnn", "CIFAR CNN", ROOT / "sample_models/cifar-cnn/model.onnx", ("sample_models/train.py", "cnn")),
    _benchmark_model("resnet20", "residual CNN (ResNet-20)"),
    _benchmark_model("mobilenetv2", "depthwise CNN (MobileNetV2, 0.5M)"),
    _benchmark_model("resnet18", "ResNet-18 at 224²", own_data=True),
    _benchmark_model("minilm", "BERT-type encoder (MiniLM-L6)", own_data=True, encoder=True),
)


@dataclass
class Samples:
    """Raw samples, turned into model inputs batch by batch: images (N, H, W, 3) uint8, or arrays as the model takes them."""

    arrays: Feeds
    labels: np.ndarray | None

    @property
    def n(self) -> int:
        return len(next(iter(self.arrays.values())))

    def batches(self, size: int = BATCH) -> Iterator[Feeds]:
        for start in range(0, self.n, size):
            yield {name: _as_input(array[start : start + size]) for name, array in self.arrays.items()}


def missing(case: Case, data: Path) -> str | None:
    """Why the case can't be run, and what would change that."""
    if not case.model.exists():
        return f"{case.model.name} is not there: run `python {' '.join(case.trained_by)}`, or give --train"
    needed = [Path(f"{case.data}-{part}.npz") for part in ("calib", "test")] if case.data else _cifar(data)
    absent = [path for path in needed if not path.exists()]
    return f"{absent[0]} is not there" if absent else None


def calibration_file(case: Case, data: Path, folder: Path, count: int = CALIBRATION_SAMPLES) -> Path:
    """Write the calibration samples as the model takes them, which every tool can read."""
    found = samples(case, data, "calib", count)
    parts = list(found.batches())
    path = folder / "calib.npz"
    inputs = {name: np.concatenate([part[name] for part in parts]) for name in found.arrays}
    np.savez(path, **inputs)  # type: ignore[arg-type]
    return path


def test_samples(case: Case, data: Path, count: int | None) -> Samples:
    return samples(case, data, "test", count)


def samples(case: Case, data: Path, part: str, count: int | None) -> Samples:
    path = Path(f"{case.data}-{part}.npz") if case.data else _cifar(data)[0 if part == "calib" else 1]
    with np.load(path) as arrays:
        found = {name: arrays[name][:count] for name in arrays.files}
    labels = found.pop("y", None)
    return Samples(found, labels)


def _cifar(data: Path) -> list[Path]:
    return [data / "cifar10_train.npz", data / "cifar10_test.npz"]


def _as_input(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        return array
    x = (array.astype(np.float32) / 255 - np.asarray(CIFAR_MEAN, np.float32)) / np.asarray(CIFAR_STD, np.float32)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
