"""The same network as .onnx and as .pt2, measured side by side in one runtime."""

import numpy as np
import pytest

from modelkit.bench.measure import measure
from modelkit.bench.measurement import Subject
from modelkit.core.errors import InputWarning
from modelkit.data import open_data
from modelkit.models.opening import open_model

pytestmark = pytest.mark.filterwarnings("ignore::modelkit.core.errors.NoiseWarning")


@pytest.fixture
def models(zoo):
    return [Subject("onnx", open_model(zoo.onnx("mlp"))), Subject("pt2", open_model(zoo.pt2("mlp")))]


@pytest.mark.parametrize("runtime", ["auto", "torch"])
def test_formats_agree_in_one_runtime(models, runtime, tmp_path):
    spec = models[0].model.graph.inputs[0]
    x = np.random.default_rng(0).standard_normal((20, *spec.dims[1:])).astype(spec.dtype)
    np.savez(tmp_path / "data.npz", **{spec.name: x})
    data = open_data(tmp_path / "data.npz", models[0].model.graph.inputs)
    metrics = ["sqnr", "agreement"]
    arguments = {"runtimes": runtime, "threads": 1, "max_time": 0.1, "dataset": data, "metrics": metrics}
    if runtime == "auto":
        with pytest.warns(InputWarning, match="onnxruntime"):
            found = measure(models, **arguments)
    else:
        found = measure(models, **arguments)
    assert {measurement.runtime for measurement in found} == {"onnxruntime" if runtime == "auto" else "torch"}
    assert found[0].quality == {}
    assert found[1].quality["sqnr"].value > 80
    assert found[1].quality["agreement"].value == 1.0
    assert found[1].quality["agreement"].n == 20
