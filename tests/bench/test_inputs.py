import numpy as np
import pytest

from modelkit.bench.inputs import BATCH_BYTES, LARGEST_BATCH, check_batch_sizes, quality_batch_size, timing_feeds
from modelkit.core.errors import ModelkitError
from modelkit.core.graph import Edge, Graph, Input, Node


def graph_of(dims, hidden=(1, 8), dtype="float32"):
    """One node from x to a hidden value."""
    shape = tuple(dim if isinstance(dim, int) else 1 for dim in dims)
    edges = {"x": Edge("x", shape, dtype), "h": Edge("h", hidden, "float32")}
    return Graph((Node("n", "other", "Op", ("x",), ("h",)),), edges, (Input("x", dtype, dims),), ("h",))


class Samples:
    labels = None

    def __init__(self, *shape):
        self._x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)

    def padded_batches(self, size):
        part = self._x[:size]
        yield {"x": part[np.arange(size) % len(part)]}, None, len(part)


FREE, FIXED = graph_of(("batch", 3)), graph_of((4, 3))


def test_batch_sizes():
    assert check_batch_sizes(["a"], [FREE], None) == [1]
    assert check_batch_sizes(["a"], [FREE], [8, 1, 8]) == [8, 1]
    assert check_batch_sizes(["a", "b"], [FREE, FIXED], None) == [4]
    with pytest.raises(ModelkitError, match="b can only run with a batch size of 4, not 8"):
        check_batch_sizes(["a", "b"], [FREE, FIXED], [4, 8])


def test_timing_feeds_repeat_too_little_data():
    assert timing_feeds(FREE, 5, Samples(2, 3), 0)["x"][:, 0].tolist() == [0, 3, 0, 3, 0]
    made_up = timing_feeds(FREE, 5, None, 0)
    assert made_up["x"].shape == (5, 3)
    np.testing.assert_array_equal(made_up["x"], timing_feeds(FREE, 5, None, 0)["x"])


def test_quality_batches_keep_activations_modest():
    assert quality_batch_size([FREE], Samples(9, 3)) == LARGEST_BATCH
    assert quality_batch_size([FREE, FIXED], Samples(9, 3)) == 4
    wide = graph_of(("batch", 3), hidden=(1, BATCH_BYTES // 40))
    assert quality_batch_size([wide], Samples(9, 3)) == 9
    assert quality_batch_size([wide], Samples(2, 3000)) == 1  # a text 1000 times as long as the graph was opened with
