"""The odd models are valid: the checker passes them and onnxruntime runs them, so a tool that fails on one is at fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.odd_onnx import CANNOT_RUN, CHECKER_REFUSES, ODD, write

every_model = pytest.mark.parametrize("name", ODD)


@every_model
def test_checker_accepts(name: str, tmp_path: Path) -> None:
    if name in CHECKER_REFUSES:
        pytest.skip(CHECKER_REFUSES[name])
    model, _ = ODD[name]()
    write(model, tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)


@every_model
def test_onnxruntime_runs(name: str, tmp_path: Path) -> None:
    if name in CANNOT_RUN:
        pytest.skip(CANNOT_RUN[name])
    model, feeds = ODD[name]()
    path = tmp_path / "model.onnx"
    write(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for output in session.run(None, feeds):
        assert np.isfinite(output).all()
        assert output.std() > 0, "a constant output would hide a wrong weight"
