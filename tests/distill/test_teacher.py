"""What the student learns from."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from modelkit.distill.teacher import Teacher
from modelkit.models.torch.model import TorchModel


class TypesChecked(nn.Module):
    """As many models do, it computes a part in float32, which its program checks."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(x).float().sin()


def test_answers_are_the_originals_own_whatever_the_training_computes_in():
    torch.manual_seed(0)
    module, x = TypesChecked().eval(), torch.randn(6, 8)
    model = TorchModel.of(torch.export.export(module, (x,)), Path("m.pt2"))
    (output,) = model.graph.outputs
    teacher = Teacher(model, model.graph, {output: output}, len(x), "cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answers = teacher(np.arange(len(x)), {"x": x.numpy()})
    np.testing.assert_allclose(answers[output].numpy(), module(x).detach().numpy(), atol=1e-6)
