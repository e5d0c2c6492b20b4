"""Which names a pickle would import, found by reading its opcodes: nothing is unpickled."""

from __future__ import annotations

import io
import pickletools

_TENSORS = {
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch.storage TypedStorage",
    "torch.storage UntypedStorage",
    "torch.serialization _get_layout",
    "torch.nn.parameter Parameter",
    "torch._tensor _rebuild_from_type_v2",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
    "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_sparse_tensor",
    "torch._utils _rebuild_meta_tensor_no_storage",
}  # Not torch.storage._load_from_bytes: it unpickles its argument.
_TYPES = {
    *("float64", "float32", "float16", "bfloat16", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "bool"),
    *(
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "strided",
        "sparse_coo",
        "per_tensor_affine",
        "per_channel_affine",
    ),
}
_STORAGES = (
    "Float",
    "Double",
    "Half",
    "BFloat16",
    "Long",
    "Int",
    "Short",
    "Char",
    "Byte",
    "Bool",
    "ComplexFloat",
    "ComplexDouble",
    "Untyped",
)
UNKNOWN = "a name that is computed"
_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")


def is_plain(name: str) -> bool:
    """Whether a name in a pickle only serves to rebuild tensors."""
    module, _, attribute = name.partition(" ")
    if module == "torch" and (attribute in _TYPES or attribute.removesuffix("Storage") in _STORAGES):
        return True
    return name in _TENSORS


def imports(data: bytes, pickles: int = 1) -> frozenset[str]:
    """The names, as "module attribute", that the first `pickles` pickles of `data` would import.

    UNKNOWN is among them if one is put together in a way that is not followed. Raises ValueError for what is not a pickle.
    """
    stream = io.BytesIO(data)
    found: set[str] = set()
    for _ in range(pickles):
        found |= _imports(stream)
    return frozenset(found)


def _imports(stream: io.BytesIO) -> set[str]:
    found: set[str] = set()
    memo: dict[int, str | None] = {}
    pushed: list[str | None] = []  # what the latest opcodes pushed: a string, or None for anything else
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name in ("GLOBAL", "INST"):
                found.add(str(argument))
            elif name == "STACK_GLOBAL":
                parts = pushed[-2:]
                found.add(" ".join(part for part in parts if part) if len(parts) == 2 and None not in parts else UNKNOWN)
            elif name in ("EXT1", "EXT2", "EXT4"):
                found.add(UNKNOWN)
            if name in _STRINGS:
                pushed.append(str(argument))
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                pushed.append(memo.get(int(str(argument))))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[int(str(argument))] = pushed[-1] if pushed else None
            elif name == "MEMOIZE":
                memo[len(memo)] = pushed[-1] if pushed else None
            elif name not in ("PROTO", "FRAME"):
                pushed.append(None)
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError, UnicodeDecodeError) as error:
        raise ValueError("not a pickle") from error
    return found
