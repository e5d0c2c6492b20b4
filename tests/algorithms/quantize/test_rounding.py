"""Rounding against a naive oracle in float64, written from the definition."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.algorithms.quantize.clip_search import clip_search
from modelkit.algorithms.quantize.round_to_nearest import round_to_nearest
from modelkit.core import saturation


def oracle(weight, bits, symmetric, group_size, axis):
    """Each value to the nearest point of the grid that spans its channel's group."""
    w = np.moveaxis(weight.astype(np.float64), axis, 0)
    rows = w.reshape(w.shape[0], -1)
    out = np.empty_like(rows)
    size = group_size or rows.shape[1]
    for channel in range(rows.shape[0]):
        for start in range(0, rows.shape[1], size):
            group = rows[channel, start : start + size]
            if symmetric:
                limit = 2 ** (bits - 1) - 1
                scale = np.abs(group).max() / limit
                if scale == 0:
                    out[channel, start : start + size] = 0
                    continue
                out[channel, start : start + size] = np.clip(np.round(group / scale), -limit, limit) * scale
            else:
                low, high = min(group.min(), 0), max(group.max(), 0)
                scale = (high - low) / (2**bits - 1)
                if scale == 0:
                    out[channel, start : start + size] = 0
                    continue
                zero = np.clip(np.round(-low / scale), 0, 2**bits - 1)
                out[channel, start : start + size] = (np.clip(np.round(group / scale) + zero, 0, 2**bits - 1) - zero) * scale
    return np.moveaxis(out.reshape(w.shape), 0, axis)


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([8, 4, 3, 2]),
    symmetric=st.booleans(),
    group=st.sampled_from([None, 1, 3, 8, 1000]),
    shape=st.sampled_from([(5, 7), (1, 1), (4, 3, 3, 3), (6, 1, 5), (3, 16)]),
    axis=st.sampled_from([0, 1]),
    seed=st.integers(0, 99),
)
def test_rounding_is_the_oracles(bits, symmetric, group, shape, axis, seed):
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    form = round_to_nearest(weight, bits, symmetric=symmetric, group_size=group, axis=axis)
    expected = oracle(weight, bits, symmetric, group, axis)
    step = np.abs(expected).max() / (2 ** (bits - 1) - 1 if bits > 1 else 1)
    # Float32 may break a tie the other way: one step, and rarely.
    off = np.abs(form.decode() - expected)
    assert (off < 1e-5 * max(1.0, np.abs(expected).max())).mean() > 0.99 or off.size < 100
    assert off.max() <= 1.01 * step + 1e-6
    assert form.shape == weight.shape and form.decode().dtype == weight.dtype


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("symmetric", [True, False])
def test_codes_stay_within_their_bits(bits, symmetric):
    weight = np.random.default_rng(0).standard_normal((8, 33)).astype(np.float32) * 100
    codes = round_to_nearest(weight, bits, symmetric=symmetric, group_size=16).codes
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    assert codes.min() >= low and codes.max() <= high


def largest_product(codes):
    """The largest sum of products of two neighbouring inputs with u8 activations, by trying their extremes: (out, in, places)."""
    codes = codes.reshape(*codes.shape[:2], -1).astype(int)
    codes = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2), (0, 0)))
    sums = [a * codes[:, 0::2] + b * codes[:, 1::2] for a in (0, 255) for b in (0, 255)]
    return max(np.abs(sum).max() for sum in sums)


@pytest.mark.parametrize("shape", [(8, 64), (5, 33), (1, 1), (6, 4, 3, 3), (6, 5, 1, 1), (6, 3, 3, 3), (4, 2, 5)])
@pytest.mark.parametrize("quantize", [round_to_nearest, partial(round_to_nearest, shrink=0.5), clip_search])
@pytest.mark.parametrize("per_tensor", [False, True])
def test_reduced_range_never_saturates_16_bits(shape, quantize, per_tensor):
    if per_tensor and quantize is clip_search:
        pytest.skip("no such grid")
    for seed in range(20):
        weight = np.random.default_rng(seed).standard_t(2, shape).astype(np.float32)
        form = quantize(weight, 8, reduce_range=True, **({"per_tensor": True} if per_tensor else {}))
        assert largest_product(form.codes) < 2**15 and saturation.fits(form.codes)
        if shape == (6, 3, 3, 3):  # kernels may lay its places in a row, and pair over their borders
            assert np.abs(form.codes.astype(int)).max() <= 64


def test_reduced_range_loses_less_than_half_of_the_levels():
    weight = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    half = np.abs(weight).max(1, keepdims=True) / 64
    whole, reduced = (np.abs(round_to_nearest(weight, reduce_range=r).decode() - weight).mean() for r in (False, True))
    assert whole < reduced < 0.75 * np.abs(np.rint(weight / half) * half - weight).mean()


def test_fewer_bits_have_no_range_to_reduce():
    weight = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    assert (round_to_nearest(weight, 4, reduce_range=True).codes == round_to_nearest(weight, 4).codes).all()


def test_all_zero_channels_stay_zero():
    weight = np.zeros((3, 4), np.float32)
    assert (round_to_nearest(weight).decode() == 0).all()
    assert (round_to_nearest(weight, 4, symmetric=False, group_size=2).decode() == 0).all()


def test_bytes_are_those_of_packed_bits():
    form = round_to_nearest(np.ones((4, 10), np.float32), 3, group_size=5)
    assert form.nbytes == 4 * 4 + 4 * 2 * 4  # 30 bits a row in 4 bytes, 8 float32 scales


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [None, 16, 7])
def test_clip_search_is_never_worse_than_rounding(seed, bits, symmetric, group):
    weight = np.random.default_rng(seed).standard_t(3, (16, 40)).astype(np.float32)
    plain = round_to_nearest(weight, bits, symmetric=symmetric, group_size=group)
    searched = clip_search(weight, bits, symmetric=symmetric, group_size=group)
    assert ((searched.decode() - weight) ** 2).sum() <= ((plain.decode() - weight) ** 2).sum() * (1 + 1e-6)


def test_clip_search_gains_where_levels_are_few():
    weight = np.random.default_rng(0).standard_normal((16, 256)).astype(np.float32)
    plain, searched = round_to_nearest(weight, 3), clip_search(weight, 3)
    assert ((searched.decode() - weight) ** 2).sum() < 0.9 * ((plain.decode() - weight) ** 2).sum()
