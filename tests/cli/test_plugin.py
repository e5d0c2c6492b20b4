"""A plugin package, installed with pip, used through the command line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a machine on which the plugin is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, folder / "source")  # building leaves files beside the source
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    subprocess.run([*command, folder / "site", folder / "source"], check=True, timeout=200)
    return {**os.environ, "PYTHONPATH": str(folder / "site")}


def modelkit(environment, *words):
    command = [sys.executable, "-m", "modelkit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)


def test_the_plugin_is_listed_with_its_options(installed):
    done = modelkit(installed, "passes", "quantize.signs", "--json")
    assert '"gain"' in done.stdout and done.returncode == 0
    assert "broken" in modelkit(installed, "passes", "--json").stdout


def test_the_plugin_compresses(installed, model):
    done = modelkit(
        installed, "quantize", model, "--algorithm", "signs", "-p", "gain=0.8", "--activations", "none", "--bits", 2, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert '"pass": "quantize.signs"' in done.stdout and '"gain": 0.8' in done.stdout
    assert "signs are for linear layers" in done.stdout


def test_a_broken_plugin_fails_only_when_it_is_chosen(installed, model):
    assert modelkit(installed, "quantize", model, "-q").returncode == 0
    done = modelkit(installed, "quantize", model, "--algorithm", "broken", "--force")
    assert done.returncode == 2 and "can't be imported" in done.stderr and "Traceback" not in done.stderr
