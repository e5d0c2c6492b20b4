"""The zoo itself is sound: each network exports to both formats, and the files compute what the module computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.architectures import ARCHITECTURES, Architecture
from tests.zoo_cache import ZooCache

MAX_PARAMETERS = 1_000_000
OTHER_BATCH = 5

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda a: a.name)


def outputs_of(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    with torch.no_grad():
        result = module(*inputs.values())
    return [tensor.numpy() for tensor in (result if isinstance(result, tuple) else (result,))]


def assert_close(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-4)


@every_architecture
def test_build_is_small_and_repeatable(architecture: Architecture) -> None:
    module, again = architecture.build(), architecture.build()
    assert not module.training
    assert sum(p.numel() for p in module.parameters()) < MAX_PARAMETERS
    outputs = outputs_of(module, architecture.example())
    assert_close(outputs_of(again, architecture.example()), outputs)
    for output in outputs:
        assert np.isfinite(output).all()
        assert output.std() > 0.05, "outputs near zero would pass any absolute tolerance"


@every_architecture
def test_pt2_computes_what_the_module_computes(architecture: Architecture, zoo: ZooCache) -> None:
    module = torch.export.load(zoo.pt2(architecture.name)).module()
    inputs, expected = zoo.arrays(architecture.name)
    assert_close(outputs_of(module, {key: torch.from_numpy(value) for key, value in inputs.items()}), expected)


@every_architecture
@pytest.mark.parametrize("external_data", [False, True], ids=["one-file", "external-data"])
def test_onnx_computes_what_the_module_computes(architecture: Architecture, external_data: bool, zoo: ZooCache) -> None:
    path = zoo.onnx(architecture.name, external_data)
    assert Path(f"{path}.data").exists() == external_data
    inputs, expected = zoo.arrays(architecture.name)
    session = one_thread(path)
    assert [i.name for i in session.get_inputs()] == list(inputs)
    assert_close(session.run(None, inputs), expected)


@every_architecture
def test_batch_is_dynamic(architecture: Architecture, zoo: ZooCache) -> None:
    if not architecture.dynamic:
        pytest.skip("fixed batch")
    path = zoo.onnx(architecture.name)
    assert {i.type.tensor_type.shape.dim[0].dim_param for i in onnx.load(path).graph.input} == {"batch"}
    example = architecture.example(OTHER_BATCH)
    actual = one_thread(path).run(None, {key: value.numpy() for key, value in example.items()})
    assert_close(actual, outputs_of(architecture.build(), example))


def one_thread(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
