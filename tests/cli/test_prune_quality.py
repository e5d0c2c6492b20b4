"""`modelkit prune` on a trained network: what its algorithms keep of what it knows, from both formats."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

DIGITS = Path(__file__).parents[2] / "sample_models" / "digits-resnet"


def answers(path, x):
    """Of a file as anyone opens it, without modelkit."""
    if path.suffix == ".onnx":
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0].argmax(1)
    with torch.no_grad():
        return torch.export.load(path).module()(torch.from_numpy(x)).argmax(1).numpy()


@pytest.fixture
def pruned(modelkit, tmp_path):
    """(share of the test images on which the pruned and the original model agree, the pruned one's accuracy)"""

    def run(family, share, algorithm, calibrated=True):
        out = tmp_path / f"{algorithm}-{share}.{family}"
        data = ["--calib", DIGITS / "digits-calib.npz"] if calibrated else []
        words = ["--macs", share, "--algorithm", algorithm, *data, "-o", out, "--json"]
        outcome = modelkit("prune", DIGITS / f"model.{family}", *words)
        assert outcome.code == 0, outcome.err
        assert outcome.report["output"]["macs"] <= share * outcome.report["inputs"][0]["macs"]
        assert outcome.report["passes"][0]["pass"] == f"prune.channel.{algorithm}"
        with np.load(DIGITS / "digits-test.npz") as test:
            found, original = (answers(path, test["x"]) for path in (out, DIGITS / f"model.{family}"))
            return float((found == original).mean()), float((found == test["y"]).mean())

    return run


@pytest.mark.parametrize("family", ["onnx", "pt2"])
@pytest.mark.parametrize("algorithm", ["obs", "wanda", "taylor"])
def test_data_is_worth_much(pruned, family, algorithm):
    """At 0.6 of the MACs; measured: 1.0 and 0.993 for each of the three, 0.438 and 0.436 by magnitude without data."""
    agreement, accuracy = pruned(family, 0.6, algorithm)
    assert agreement >= 0.98 and accuracy >= 0.975
    assert agreement >= pruned(family, 0.6, "magnitude", calibrated=False)[0] + 0.3


@pytest.mark.parametrize("family", ["onnx", "pt2"])
def test_obs_goes_further_than_magnitude_with_the_same_data(pruned, family):
    """At 0.4 of the MACs, where magnitude gets its means and variances back; measured: 1.0 and 0.962."""
    assert pruned(family, 0.4, "obs")[0] >= pruned(family, 0.4, "magnitude")[0] + 0.02
