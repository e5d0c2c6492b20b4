"""Several models on the command line, some of which do not say what their inputs are."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from modelkit.cli.model_argument import open_models
from modelkit.core.errors import UnstatedInputs
from tests.cli.small_torch import network


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    torch.jit.trace(network(), torch.randn(2, 3, 8, 8)).save(tmp_path / "m.pt")
    return tmp_path / "m.pt"


def test_another_model_says_what_the_inputs_are(scripted: Path, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(network(), (torch.randn(1, 3, 8, 8),)), tmp_path / "m.pt2")
    opened = open_models([str(scripted), str(tmp_path / "m.pt2")], lambda text: nullcontext(), None)
    assert [model.format for model in opened] == ["torchscript", "pt2"]
    assert [model.graph.edges[model.graph.inputs[0].name].shape for model in opened] == [(1, 3, 8, 8)] * 2


def test_data_says_what_the_inputs_are(scripted: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 3, 8, 8), np.float32), y=np.zeros(4, np.int64))
    (opened,) = open_models([str(scripted)], lambda text: nullcontext(), str(tmp_path / "d.npz"))
    assert opened.graph.edges[opened.graph.inputs[0].name].shape == (1, 3, 8, 8)


def test_nothing_says_what_the_inputs_are(scripted: Path) -> None:
    with pytest.raises(UnstatedInputs, match="does not say what its inputs are"):
        open_models([str(scripted)], lambda text: nullcontext(), None)
