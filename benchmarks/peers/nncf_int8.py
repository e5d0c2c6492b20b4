"""NNCF's post-training quantisation with its default preset.

Run by the peers' own interpreter: `nncf_int8.py MODEL CALIB.npz OUT [--transformer]`, or `--imports-only`.
"""

import sys

import nncf
import numpy as np
import onnx
import onnxruntime  # noqa: F401  NNCF loads it when it calibrates, and the memory of imports is measured without the work


def main() -> None:
    model, calibration, out, *flags = sys.argv[1:]
    with np.load(calibration) as data:
        arrays = {name: data[name] for name in data.files}
    rows = range(len(next(iter(arrays.values()))))
    samples = [{name: array[row : row + 1] for name, array in arrays.items()} for row in rows]
    quantized = nncf.quantize(
        onnx.load(model),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER if "--transformer" in flags else None,
        subset_size=len(samples),
    )
    onnx.save(quantized, out)


if __name__ == "__main__" and sys.argv[1:] != ["--imports-only"]:
    main()
