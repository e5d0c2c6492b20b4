"""Look through a .pt2 archive before torch loads it.

torch.export.load runs what the archive says in several ways: it unpickles sample inputs and some weights without restrictions,
resolves operators by walking attributes of the torch module (torch.os.system would do), and evaluates the expressions of
symbolic shapes as Python. Each is held to what torch.export itself writes. The archive is read by torch's own reader, so that
what is checked is what is loaded.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import torch

from .pickles import imports, is_plain

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized_decomposed|torchvision|_c10d_functional)\.(?!from_file)\w+(\.\w+)?"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem|index)"
    r"|math\.(ceil|floor|trunc|sqrt|pow|log|log2|exp)|torch\.sym_\w+|torch\._sym_\w+"
    r"|torch\.fx\.experimental\.symbolic_shapes\.\w+"
)
_WORDS = frozenset(
    (
        "FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow "
        "FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat "
        "Identity Max Min Eq Ne Lt Le Gt Ge And Or Not True False floor ceiling Abs Piecewise sqrt log exp oo int_oo "
        "BitwiseFn_bitwise_and BitwiseFn_bitwise_or OpaqueUnaryFn_sqrt OpaqueUnaryFn_log Symbol Integer Rational Float Add Mul "
        "Pow Equality Unequality StrictLessThan LessThan GreaterThan StrictGreaterThan ExprCondPair positive negative "
        "nonnegative nonpositive integer zero nonzero real finite precision"
    ).split()
)
_SYMBOL = re.compile(r"[a-z]{1,4}\d+")
_QUOTED = re.compile(r"'([a-z]{1,4}\d+|\d*\.?\d+)'")
_EXPRESSION = re.compile(r"[\w\s+\-*/%(),.<>=&|~]*")
_FOREIGN = ("data/aotinductor/", "data/executorch/", "data/constants/custom_obj", "data/constants/opaque_obj")


def dangers(file: BinaryIO) -> Iterator[str]:
    """What in the archive could run code or is not understood, each as a phrase. Raises RuntimeError if it can't be read."""
    reader = torch._C.PyTorchFileReader(file)
    names = list(reader.get_all_records())
    with zipfile.ZipFile(
        file
    ) as archive:  # What torch falls back on when its own reader fails, to load and unpickle an older format.
        for entry in archive.namelist():
            if entry.partition("/")[2] not in names:
                yield f"{entry} is out of place"
    raw = set()
    for name in names:
        if name.startswith(("data/weights/", "data/constants/")) and name.endswith("_config.json"):
            folder = name.rsplit("/", 1)[0]
            for entry in _json(reader, name).get("config", {}).values():
                if not entry.get("use_pickle", True):
                    raw.add(f"{folder}/{entry.get('path_name')}")
    for name in names:
        if name.startswith(_FOREIGN):
            yield f"{name} holds compiled code or objects"
        elif name.startswith("models/"):
            yield from _program_dangers(_json(reader, name))
        elif name.startswith("data/") and name not in raw and not name.endswith(".json"):
            yield from (f"{name} {reason}" for reason in _pickle_dangers(reader.get_record(name)))


def _json(reader: Any, name: str) -> dict[str, Any]:
    found = json.loads(reader.get_record(name).decode())
    if not isinstance(found, dict):
        raise ValueError(name)
    return found


def _pickle_dangers(data: bytes) -> Iterator[str]:
    if not data:
        return
    if data[:4] != b"PK\x03\x04":
        yield "is not what torch.save writes"
        return
    reader = torch._C.PyTorchFileReader(io.BytesIO(data))
    names = list(reader.get_all_records())
    if "data.pkl" not in names or "constants.pkl" in names:
        yield "is not a pickle of tensors"
        return
    for name in imports(reader.get_record("data.pkl")):
        if not is_plain(name):
            yield f"imports {name.replace(' ', '.')}"


def _program_dangers(found: Any) -> Iterator[str]:
    if isinstance(found, list):
        for item in found:
            yield from _program_dangers(item)
        return
    if not isinstance(found, dict):
        return
    for key, value in found.items():
        if key in ("target", "as_operator") and isinstance(value, str):
            if value.startswith(("torch", "_operator", "math", "#")) and not _OPERATOR.fullmatch(value) and "inputs" in found:
                yield f"the program calls {value}"
            elif key == "as_operator" and not _OPERATOR.fullmatch(value):
                yield f"the program calls {value}"
        elif key == "expr_str" and not _is_arithmetic(str(value)):
            yield f"a shape is {str(value)[:60]!r}"
        elif key == "range_constraints" and isinstance(value, dict):
            yield from (f"a shape is {name[:60]!r}" for name in value if not _is_arithmetic(name))
        else:
            yield from _program_dangers(value)


def _is_arithmetic(expression: str) -> bool:
    """Whether an expression is made of symbols of shapes, numbers and the functions that torch writes."""
    expression = _QUOTED.sub(r"\1", expression)
    words = re.findall(r"[A-Za-z_]\w*", expression)
    attribute = re.search(r"[A-Za-z_)]\s*\.|\.\s*[A-Za-z_]", expression)
    return (
        bool(_EXPRESSION.fullmatch(expression))
        and not attribute
        and all(word in _WORDS or _SYMBOL.fullmatch(word) for word in words)
    )
