"""Integers of a few bits in whole bytes, row by row, lowest bits first: the layout that lowered programs unpack."""

from __future__ import annotations

from math import lcm

import numpy as np

from ...core.forms import Array


def block(bits: int) -> tuple[int, int]:
    """(codes, bytes) of the smallest run of whole bytes: (2, 1) for 4 bits, (8, 3) for 3."""
    whole = lcm(bits, 8)
    return whole // bits, whole // 8


def pack(codes: Array, bits: int) -> Array:
    """Non-negative codes (rows, n) below 2**bits as uint8 (rows, bytes); the last block is filled with zeros."""
    per_block, width = block(bits)
    rows, count = codes.shape
    blocks = -(-count // per_block)
    padded = np.zeros((rows, blocks * per_block), np.uint64)
    padded[:, :count] = codes
    words = np.zeros((rows, blocks), np.uint64)
    for i in range(per_block):
        words |= padded[:, i::per_block] << np.uint64(bits * i)
    pieces = [(words >> np.uint64(8 * i)) & np.uint64(255) for i in range(width)]
    return np.stack(pieces, axis=-1).astype(np.uint8).reshape(rows, blocks * width)


def unpack(packed: Array, bits: int, count: int) -> Array:
    """The first `count` codes of each row of `pack`'s result, uint8 (rows, count)."""
    per_block, width = block(bits)
    rows = packed.shape[0]
    pieces = packed.reshape(rows, -1, width).astype(np.uint64)
    words = np.zeros(pieces.shape[:2], np.uint64)
    for i in range(width):
        words |= pieces[:, :, i] << np.uint64(8 * i)
    codes = np.stack([(words >> np.uint64(bits * i)) & np.uint64(2**bits - 1) for i in range(per_block)], axis=-1)
    return codes.reshape(rows, -1)[:, :count].astype(np.uint8)
