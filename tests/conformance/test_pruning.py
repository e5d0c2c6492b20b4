"""Every architecture loses channels in both formats, and the result is an ordinary smaller model."""

import contextlib

import numpy as np
import pytest

from modelkit.analysis.macs import total_macs
from modelkit.core import passes
from modelkit.core.pruning import Budget
from modelkit.models.opening import open_model
from modelkit.prune.channels import Pruning, plan_pruning, prune
from tests.architectures import ARCHITECTURES
from tests.every_architecture import in_both_formats

pytestmark = pytest.mark.usefixtures("silent")

QUICK = ("resnet", "gpt2", "lstm_speech")
SHARE = 0.7


@pytest.mark.parametrize(("architecture", "family"), in_both_formats(QUICK))
def test_prunes_to_a_share_of_its_macs(zoo, tmp_path, architecture, family):
    model = open_model(getattr(zoo, family)(architecture))
    name = "prune.channel.magnitude"
    wanted = Pruning(name, passes.build(name, {}), Budget("macs", SHARE))
    plan = plan_pruning(model, wanted, None)
    out = tmp_path / f"pruned.{family}"
    result = prune(model, wanted, plan, None, out, lambda stage: contextlib.nullcontext())
    assert total_macs(result.model.graph) <= SHARE * total_macs(model.graph)
    assert {record.name for record in result.layers} == {layer.name for layer in model.graph.layers()}
    assert all(record.skipped is not None or record.bytes_after < record.bytes_before for record in result.layers)
    _, expected = zoo.arrays(architecture)
    dynamic = ARCHITECTURES[architecture].dynamic
    for batch in (2, 5) if dynamic else (2,):
        feeds = {key: value.numpy() for key, value in ARCHITECTURES[architecture].example(batch).items()}
        found = run_without_modelkit(out, feeds)
        assert [array.shape for array in found] == [(batch, *array.shape[1:]) for array in expected]
        assert all(np.isfinite(array).all() for array in found)


def run_without_modelkit(path, feeds):
    if path.suffix == ".onnx":
        import onnxruntime

        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    import torch

    with torch.no_grad():
        result = torch.export.load(path).module()(*(torch.from_numpy(array) for array in feeds.values()))
    return [value.numpy() for value in (result if isinstance(result, tuple) else (result,))]
