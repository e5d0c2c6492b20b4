"""Torch's files that would run code when they are loaded: refused without being unpickled, unless they are trusted."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelkit.core.errors import ModelkitError
from modelkit.models.opening import open_model
from modelkit.models.torch.archive import _is_arithmetic
from modelkit.models.torch.model import TorchModel
from modelkit.models.torch.pickles import UNKNOWN, imports, is_plain
from modelkit.models.torch.sniff import sniff
from tests.models.torch.archives import rewrite, torch_saved
from tests.models.torch.networks import ARCH, IMAGE, conv_pt2


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def evil_archives(tmp_path: Path, mark: Path) -> dict[str, Path]:
    good = conv_pt2(tmp_path / "good.pt2")
    evil = torch_saved(((Evil(mark),), {}))

    def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
        def apply(name: str, data: bytes) -> bytes:
            if "/models/" not in name:
                return data
            program = json.loads(data)
            change(program)
            return json.dumps(program).encode()

        return apply

    def call_system(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"

    def evaluate(program: dict[str, Any]) -> None:
        def walk(found: Any) -> None:
            if isinstance(found, dict):
                for key, value in found.items():
                    if key == "expr_str":
                        found[key] = f"__import__('os').system('touch {mark}')"
                    walk(value)
            elif isinstance(found, list):
                for item in found:
                    walk(item)

        walk(program)

    def pickled_weight(name: str, data: bytes) -> bytes:
        if name.endswith("model_weights_config.json"):
            config = json.loads(data)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config).encode()
        return evil if "/weights/weight_" in name else data

    def same(_: str, data: bytes) -> bytes:
        return data

    def inputs(value: bytes) -> Callable[[str, bytes], bytes]:
        return lambda name, data: value if "sample_inputs" in name else data

    legacy = torch_saved(((Evil(mark),), {}), _use_new_zipfile_serialization=False)
    variants = {
        "sample inputs": (inputs(evil), {}),
        "sample inputs, old protocol": (inputs(legacy), {}),
        "sample inputs, bare pickle": (inputs(pickle.dumps(Evil(mark))), {}),
        "sample inputs, protocol 4": (inputs(torch_saved((Evil(mark),), pickle_protocol=4)), {}),
        "pickled weight": (pickled_weight, {}),
        "custom object": (same, {"data/constants/custom_obj_0": b"x"}),
        "compiled code": (same, {"data/aotinductor/model/x.so": b"\x7fELF"}),
        "operator": (edited(call_system), {}),
        "expression": (edited(evaluate), {}),
        "legacy weights": (same, {"data/weights/model.pt": evil}),
    }
    return {name: rewrite(good, tmp_path / f"{i}.pt2", *variant) for i, (name, variant) in enumerate(variants.items())}


def test_archives_that_run_code_are_refused_and_run_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name, path in evil_archives(tmp_path, mark).items():
        with pytest.raises(ModelkitError, match="--trust") as caught:
            open_model(path)
        assert "could run code" in caught.value.what, name
        assert not mark.exists(), name
    assert TorchModel.open(tmp_path / "good.pt2").graph.by_name["conv"].kind == "conv"


def test_older_format_beside_the_newer_runs_nothing(tmp_path: Path) -> None:
    """torch.export.load falls back on members of this name, and unpickles them, when its own reader fails."""
    mark = tmp_path / "ran"
    path = rewrite(
        conv_pt2(tmp_path / "good.pt2"), tmp_path / "older.pt2", lambda name, data: b"" if "sample_inputs" in name else data
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("version", "8.8")
        for part in ("example_inputs.pt", "state_dict.pt", "constants.pt", "exported_program.json"):
            archive.writestr(f"serialized_{part}", torch_saved(((Evil(mark),), {})))
    with pytest.raises(ModelkitError):
        open_model(path)
    assert not mark.exists()


def test_trusted_archive_is_loaded(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = evil_archives(tmp_path, mark)["sample inputs"]
    assert TorchModel.open(path, trust=True).graph.by_name["conv"].kind == "conv"
    assert mark.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_evil_pickles_are_refused(tmp_path: Path, legacy: bool, protocol: int) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "m.pt"
    torch.save({"w": torch.zeros(2), "x": Evil(mark)}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    sniffed = sniff(path)
    assert sniffed is not None and sniffed.content == "module" and f"{os.system.__module__}.system" in sniffed.names
    for arch in (None, ARCH):
        with pytest.raises(ModelkitError, match="--trust"):
            open_model(path, arch=arch, bindings=IMAGE)
    assert not mark.exists()


def test_names_in_pickles() -> None:
    assert imports(pickle.dumps(os.system, 2)) == {f"{os.system.__module__} system"}
    assert imports(pickle.dumps(os.system, 4)) == {f"{os.system.__module__} system"}
    computed = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93."
    assert not any(is_plain(name) for name in imports(computed))
    assert UNKNOWN in imports(b"\x80\x04)(\x93.")
    with pytest.raises(ValueError, match="not a pickle"):
        imports(b"\x80\x02nonsense")


@pytest.mark.parametrize(
    "expression", ["s77", "Mul(Integer(3), Symbol('s19', positive=True, integer=True))", "((s0 + 2)//3) - 1", "2.5*s1"]
)
def test_arithmetic_of_shapes(expression: str) -> None:
    assert _is_arithmetic(expression)


@pytest.mark.parametrize(
    "expression", ["eval(s0)", "s0.func", "().__class__", "Symbol('os')", "lambda: s0", "[s0]", "s0; s1", "exec(chr(9))"]
)
def test_other_expressions(expression: str) -> None:
    assert not _is_arithmetic(expression)
