"""Linear layers are timed as a file has them."""

import pytest
import torch

from modelkit.bench import integer_latency


@pytest.mark.parametrize(
    "target", ["avx2", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))]
)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_ways_are_run(monkeypatch, dtype, dynamic, target):
    seen = []

    def least_ms(run):
        with torch.profiler.profile() as profiler:
            run()
        seen.append({event.key for event in profiler.key_averages()})
        return float(len(seen))

    monkeypatch.setattr(integer_latency, "least_ms", least_ms)
    integer_latency.linear_latency.cache_clear()
    assert integer_latency.linear_latency(3, 16, 8, dtype, dynamic, target, 1) == (1.0, 2.0)
    integer_latency.linear_latency.cache_clear()
    if target != "cuda":  # a captured graph is one event
        assert "aten::_int_mm" not in seen[0] and "aten::_int_mm" in seen[1]
        assert ("aten::amax" in seen[1]) == dynamic
