"""NNCF's post-training quantisation with its default preset.

Run by the peers' own interpreter: `nncf_int8.py MODEL CALIB.npz OUT [--transformer]`.
"""

import sys

import nncf
import numpy as np
import onnx


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


if __name__ == "__main__":
    main()
