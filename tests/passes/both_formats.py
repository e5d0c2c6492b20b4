"""One module as models of both formats."""

from pathlib import Path

import torch

from modelkit.models.onnx.model import OnnxModel
from modelkit.models.torch.model import TorchModel

FAMILIES = ("onnx", "torch")


def opened(module, shape, family):
    """The module, which takes x (batch, *shape), as a model of this family. Edges have other names in each."""
    module, example, batch = module.eval(), (torch.zeros(2, *shape),), torch.export.Dim("batch", min=1, max=4096)
    with torch.no_grad():
        exported = torch.export.export(module, example, dynamic_shapes=({0: batch},))
        if family == "torch":
            return TorchModel.of(exported, Path("m.pt2"))
        program = torch.onnx.export(exported, dynamo=True, verbose=False)
    return OnnxModel.from_proto(program.model_proto, Path("m.onnx"), Path("."))
