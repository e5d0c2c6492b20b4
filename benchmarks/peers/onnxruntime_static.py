"""ONNX Runtime's quantiser as its documentation has it: pre-process, then QDQ with u8 activations and s8 weights per channel.

Run by the peers' own interpreter: `onnxruntime_static.py MODEL CALIB.npz OUT [--reduce-range]`.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Samples(CalibrationDataReader):
    """One sample at a time, as the examples read their images."""

    def __init__(self, path: str) -> None:
        with np.load(path) as data:
            self._arrays = {name: data[name] for name in data.files}
        self._rows = self._all()

    def _all(self) -> Iterator[dict[str, np.ndarray]]:
        for row in range(len(next(iter(self._arrays.values())))):
            yield {name: array[row : row + 1] for name, array in self._arrays.items()}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


def main() -> None:
    model, calibration, out, *flags = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        prepared = str(Path(folder) / "prepared.onnx")
        try:
            quant_pre_process(model, prepared)
        except Exception as error:  # symbolic shape inference gives up on some graphs; its own message says to skip it
            print(f"quant_pre_process: {error}; again with skip_symbolic_shape", file=sys.stderr)
            quant_pre_process(model, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            Samples(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range="--reduce-range" in flags,
        )


if __name__ == "__main__":
    main()
