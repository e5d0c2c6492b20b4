"""Plain round-to-nearest forms for tests, and how models are run and compared."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from modelkit.core.forms import Array, Quantized
from modelkit.core.model import Feeds, Model

OLD_RUNTIME = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < (1, 24)
"""Some operators are unknown to it, and some kernels round what lies between two points of a grid to the other one."""


def quantized(weight: Array, bits: int = 8, group_size: int | None = None, asymmetric: bool = False, axis: int = 0) -> Quantized:
    """The weight on one grid per channel, or per group. 8 bits leave the topmost unused: AVX2's products would saturate."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float32)
    size = group_size or rows.shape[1]
    groups = -(-rows.shape[1] // size)
    padded = np.pad(rows, ((0, 0), (0, groups * size - rows.shape[1]))).reshape(len(rows), groups, size)
    levels = 2 ** min(bits, 7) - 1
    if asymmetric:
        low, high = np.minimum(padded.min(2), 0), np.maximum(padded.max(2), 0)
        scale = ((high - low) / levels + 1e-9).astype(np.float32)
        zero = np.rint(-low / scale).astype(np.uint8)
        codes = np.clip(np.rint(padded / scale[..., None]) + zero[..., None], 0, levels).astype(np.uint8)
    else:
        top = max(levels // 2, 1)
        scale, zero = (np.abs(padded).max(2) / top + 1e-9).astype(np.float32), None
        codes = np.clip(np.rint(padded / scale[..., None]), -top, top if bits > 1 else 0).astype(np.int8)
    codes = codes.reshape(len(rows), -1)[:, : rows.shape[1]]
    moved = (weight.shape[axis], *(n for i, n in enumerate(weight.shape) if i != axis))
    return Quantized(np.moveaxis(codes.reshape(moved), 0, axis), scale, bits, zero, group_size, axis, weight.dtype.name)


def outputs(model: Model, feeds: Feeds) -> list[Array]:
    values = next(iter(model.observe([feeds], [])))
    return [values[name] for name in model.graph.outputs]


def outputs_of_file(path: Path, feeds: Feeds) -> list[Array]:
    return one_thread(path).run(None, dict(feeds))


def fused(path: Path, tmp_path: Path) -> Counter[str]:
    """How often each operator is left after ONNX Runtime's optimisation."""
    optimised = tmp_path / "optimised.onnx"
    one_thread(path, optimised)
    return Counter(node.op_type for node in onnx.load(optimised).graph.node)


def one_thread(path: Path, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def relative_error(actual: list[Array], expected: list[Array]) -> float:
    """The largest ‖a − e‖ / ‖e‖ over the outputs."""
    pairs = [(np.asarray(a, np.float64), np.asarray(e, np.float64)) for a, e in zip(actual, expected, strict=True)]
    return max(float(np.linalg.norm(a - e) / (np.linalg.norm(e) + 1e-12)) for a, e in pairs)
