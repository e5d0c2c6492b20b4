"""What starts, and how much is imported for it."""

import json
import subprocess
import sys

from tests.cli.conftest import in_new_process

_MODULES = (
    "import sys, json\n"
    "from modelkit.cli.app import main\n"
    "try:\n    main({words!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    "print('MODULES ' + json.dumps(sorted(sys.modules)), file=sys.stderr)"
)


def modules_after(*words):
    done = subprocess.run(
        [sys.executable, "-c", _MODULES.format(words=list(map(str, words)))], capture_output=True, text=True, timeout=200
    )
    line = next((line for line in done.stderr.splitlines() if line.startswith("MODULES ")), None)
    assert line, done.stderr
    return set(json.loads(line.removeprefix("MODULES ")))


HEAVY = {"torch", "onnx_ir", "onnxscript", "sympy", "transformers"}


def test_onnx_commands_never_import_torch(model, calib):
    for words in (
        ("inspect", model, "--json"),
        ("bench", model, "--max-time", "0.1", "--json"),
        ("quantize", model, "--calib", calib, "--json"),
    ):
        assert not HEAVY & modules_after(*words), words[0]


def test_help_imports_nothing_heavy():
    assert not (HEAVY | {"numpy", "onnx", "onnxruntime", "pydantic"}) & modules_after("--version")


def test_the_module_is_the_command():
    assert in_new_process("--version").out == in_new_process("--version").out
    assert in_new_process("--version").out.startswith("modelkit 0.")


def test_every_command_has_help(modelkit):
    for name in ("quantize", "bench", "inspect", "convert", "passes", "doctor", "schema"):
        outcome = modelkit(name, "--help")
        assert outcome.code == 0 and name in outcome.out


def test_an_unknown_command_is_refused(refused):
    assert "frobnicate" in refused("frobnicate")
