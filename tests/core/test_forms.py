"""Weight forms decode to what they mean."""

import numpy as np
import pytest

from modelkit.core.forms import Dense, Grid, Quantized, Sparse, numpy_dtype, sparse_pattern


def test_dense_is_itself():
    array = np.ones((2, 3), np.float32)
    assert Dense(array).decode() is array and Dense(array).nbytes == 24


def test_channels_may_lie_along_any_axis():
    codes = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    form = Quantized(codes, np.array([[1.0], [10.0], [100.0]], np.float32), 8, axis=1)
    assert (form.decode() == codes * np.array([1, 10, 100], np.float32)[None, :, None]).all()


def test_the_last_group_may_be_short():
    codes = np.ones((1, 5), np.int8)
    form = Quantized(codes, np.array([[1.0, 2.0, 3.0]], np.float32), 4, group_size=2)
    assert form.decode().tolist() == [[1, 1, 2, 2, 3]]


def test_zero_points_are_taken_off_first():
    form = Quantized(np.array([[3, 5]], np.uint8), np.array([[2.0]], np.float32), 4, np.array([[4]], np.uint8))
    assert form.decode().tolist() == [[-2, 2]]
    assert str(form) == "int4 per-tensor asym"


def test_a_grid_rounds_half_to_even_and_clamps():
    grid = Grid(1.0, 10)
    values = np.array([0.5, 1.5, -0.5, 300, -300], np.float32)
    assert grid.fake_quantize(values).tolist() == [0, 2, 0, 245, -10]


@pytest.mark.parametrize(("shape", "dtype"), [((3, 5), "float32"), ((2, 3, 3, 3), "float16"), ((7,), "bfloat16")])
def test_sparse_weights_are_what_the_mask_keeps(shape, dtype):
    weight = np.random.default_rng(0).standard_normal(shape).astype(numpy_dtype(dtype))
    mask = np.random.default_rng(1).random(shape) < 0.4
    form = Sparse.of(weight, mask=mask)
    assert (form.decode() == np.where(mask, weight, np.zeros((), weight.dtype))).all() and form.decode().dtype == weight.dtype
    assert form.shape == shape and form.dtype == dtype
    assert form.nbytes == mask.sum() * weight.dtype.itemsize + -(-mask.size // 8)


def test_a_kept_weight_may_be_zero():
    form = Sparse.of(np.zeros((2, 4), np.float32), "2:4", np.array([[1, 1, 0, 0], [0, 1, 0, 1]], bool))
    assert form.values.size == 4 and (form.decode() == 0).all()


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "1:16"])
def test_a_description_tells_the_pattern(pattern):
    form = Sparse.of(np.eye(16, dtype=np.float32), pattern)
    assert sparse_pattern(str(form)) == pattern
    assert sparse_pattern("int4 g32") is None and sparse_pattern("dense") is None
