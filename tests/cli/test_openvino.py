"""The example of a runtime plugin, installed with pip and used through the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino", reason="the example plugin needs `pip install openvino`")

SOURCE = Path(__file__).parents[2] / "examples" / "modelkit-openvino"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvino")
    shutil.copytree(SOURCE, folder / "source")  # building leaves files beside the source
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    subprocess.run([*command, folder / "site", folder / "source"], check=True, timeout=200)
    return {**os.environ, "PYTHONPATH": str(folder / "site")}


def modelkit(environment, *words):
    command = [sys.executable, "-m", "modelkit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)


def test_runtimes_side_by_side(installed, model, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32))
    words = ("--runtime", "onnxruntime,openvino", "--data", tmp_path / "d.npz", "--metric", "sqnr", "--max-time", "0.2")
    done = modelkit(installed, "bench", model, *words, "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)["measurements"]
    assert (first["runtime"], second["runtime"]) == ("onnxruntime", "openvino")
    assert second["quality"]["sqnr"]["value"] > 60 and second["latency_ms"]["p50"] > 0


def test_it_profiles(installed, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = modelkit(installed, "bench", model, "--runtime", "openvino", "--max-time", "0.1", "--profile", "--json")
    assert done.returncode == 0, done.stderr
    profile = json.loads(done.stdout)["measurements"][0]["profile"]
    assert sum(layer["share"] for layer in profile["layers"]) == pytest.approx(1.0)
    assert json.loads(Path(profile["trace"]).read_text())["traceEvents"]


def test_what_it_can_not_run_is_a_plain_sentence(installed, model):
    done = modelkit(installed, "bench", model, "--runtime", "openvino", "--device", "cuda")
    assert done.returncode == 2 and "--device cpu" in done.stderr and "Traceback" not in done.stderr
