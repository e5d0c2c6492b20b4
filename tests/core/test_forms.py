"""Weight forms decode to what they mean."""

import numpy as np

from modelkit.core.forms import Dense, Grid, Quantized


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
