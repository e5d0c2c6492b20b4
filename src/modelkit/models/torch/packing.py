"""Integers of a few bits in whole bytes, row by row, lowest bits first: the layout that lowered programs unpack."""

from __future__ import annotations

from math import lcm
from typing import Any

import numpy as np

from ...core.forms import Array


def block(bits: int) -> tuple[int, int]:
    """(codes, bytes) of the smallest run of whole bytes: (2, 1) for 4 bits, (8, 3) for 3."""
    whole = lcm(bits, 8)
    return whole // bits, whole // 8


def pack(codes: Array, bits: int) -> Array:
    """Non-negative codes (rows, n) below 2**bits as uint8 (rows, bytes); the last block is filled with zeros."""
    per_block, width = block(bits)
    word = _word(width)
    rows, count = codes.shape
    blocks = -(-count // per_block)
    padded = np.zeros((rows, blocks * per_block), word)
    padded[:, :count] = codes
    words = np.zeros((rows, blocks), word)
    for i in range(per_block):
        words |= padded[:, i::per_block] << word(bits * i)
    pieces = [(words >> word(8 * i)) & word(255) for i in range(width)]
    return np.stack(pieces, axis=-1).astype(np.uint8).reshape(rows, blocks * width)


def unpack(packed: Array, bits: int, count: int) -> Array:
    """The first `count` codes of each row of `pack`'s result, uint8 (rows, count)."""
    per_block, width = block(bits)
    word = _word(width)
    rows = packed.shape[0]
    pieces = packed.reshape(rows, -1, width).astype(word)
    words = np.zeros(pieces.shape[:2], word)
    for i in range(width):
        words |= pieces[:, :, i] << word(8 * i)
    codes = np.empty((*words.shape, per_block), np.uint8)
    for i in range(per_block):
        codes[:, :, i] = (words >> word(bits * i)) & word(2**bits - 1)
    return codes.reshape(rows, -1)[:, :count]


def _word(width: int) -> type[np.unsignedinteger[Any]]:
    """The narrowest integer that holds a block."""
    return np.uint8 if width == 1 else np.uint32 if width <= 4 else np.uint64
