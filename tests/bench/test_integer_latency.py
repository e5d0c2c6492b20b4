"""Layers are timed as a file has them."""

import pytest
import torch

from modelkit.bench import integer_latency
from modelkit.core.graph import Node, Parameter

WINDOW = {"stride": (2, 1), "dilation": (1, 1), "padding": ((1, 1), (0, 0)), "groups": 1, "transposed": False}


def layer(kind, shape, dtype):
    attributes = WINDOW if kind == "conv" else {}
    return Node("layer", kind, kind, ("x",), ("y",), {"weight": Parameter("w", shape, dtype, 0)}, attributes)


@pytest.mark.parametrize(
    "target", ["avx2", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))]
)
@pytest.mark.parametrize("kind", ["static", "dynamic", "conv"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_ways_are_run(monkeypatch, dtype, kind, target):
    dynamic, conv = kind == "dynamic", kind == "conv"
    node, shape = (
        layer("conv" if conv else "linear", (8, 16, 3, 1) if conv else (8, 16), dtype),
        (1, 16, 9, 7) if conv else (3, 16),
    )
    seen = []

    def least_ms(run):
        with torch.profiler.profile() as profiler:
            run()
        seen.append({event.key for event in profiler.key_averages()})
        return float(len(seen))

    monkeypatch.setattr(integer_latency, "least_ms", least_ms)
    integer_latency._measured.cache_clear()
    assert integer_latency.integer_latency(node, shape, dynamic, target, 1) == (1.0, 2.0)
    integer_latency._measured.cache_clear()
    if target != "cuda":  # a captured graph is one event
        assert "aten::_int_mm" not in seen[0] and "aten::_int_mm" in seen[1]
        assert ("aten::amax" in seen[1]) == dynamic
