import time

import numpy as np
import pytest

from modelkit.bench.quick import quick_latency
from modelkit.core.errors import ModelkitError
from tests.bench.small_models import deep_onnx


def test_the_smaller_model_is_found_faster_within_the_budget(tmp_path):
    short, long = deep_onnx(tmp_path / "short.onnx", 2), deep_onnx(tmp_path / "long.onnx", 16)
    began = time.perf_counter()
    found = quick_latency(
        {"long": long, "short": short.read_bytes()}, {"x": np.ones((8, 256), np.float32)}, threads=1, budget_s=0.4
    )
    assert time.perf_counter() - began < 5
    assert min(found["short"]) < min(found["long"])
    assert set(found) == {"short", "long"}
    assert all(value > 0 for times in found.values() for value in times) and len(found["short"]) == len(found["long"])


def test_a_candidate_that_does_not_run_is_an_error(tmp_path):
    with pytest.raises(ModelkitError, match="ONNX Runtime"):
        quick_latency({"broken": b"not a model"}, {"x": np.ones((1, 4), np.float32)}, threads=1)
