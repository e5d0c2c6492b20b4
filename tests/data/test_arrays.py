"""Arrays: which is which input, the layouts and casts that are allowed, and every way in which they can't be used."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.core.graph import Input
from modelkit.core.model import Preprocessing
from modelkit.data import open_data
from modelkit.data.convert import scale
from modelkit.data.layout import fit

IMAGE = Input("image", "float32", ("batch", 3, 8, 6))
FLAT = Input("x", "float32", ("batch", 12))
IDS = Input("input_ids", "int64", ("batch", "length"))
MASK = Input("attention_mask", "int64", ("batch", "length"))


def npz(folder: Path, compressed: bool = False, **arrays: np.ndarray) -> str:
    path = folder / "data.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return str(path)


def everything(dataset, batch_size: int = 3):
    feeds = [feeds for feeds, _ in dataset.batches(batch_size)]
    return {name: np.concatenate([f[name] for f in feeds]) for name in feeds[0]}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["image", "x", "anything"])
def test_single_input_and_labels(tmp_path, compressed, name):
    x = np.random.default_rng(0).normal(size=(7, 3, 8, 6)).astype(np.float32)
    data = open_data(npz(tmp_path, compressed, **{name: x, "y": np.arange(7)}), [IMAGE], label_required=True)
    assert data.n == 7 and data.labels is not None and data.labels.dtype == np.int64
    batches = list(data.batches(3))
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([f["image"] for f, _ in batches]), x)
    np.testing.assert_array_equal(everything(data)["image"], x)  # a second pass


@pytest.mark.parametrize("given, wanted", [("input.1", "input_1"), ("input_1", "input.1"), ("ids:0", "ids_0"), ("0", "input_0")])
def test_names_of_another_format(tmp_path, given, wanted):
    inputs = [Input(wanted, "float32", ("batch", 12)), MASK]
    x, mask = np.ones((4, 12), np.float32), np.ones((4, 5), np.int64)
    assert set(everything(open_data(npz(tmp_path, **{given: x, "attention_mask": mask}), inputs))) == {wanted, "attention_mask"}
    both = npz(tmp_path, **{given: x, wanted: x + 1, "attention_mask": mask})
    with pytest.warns(InputWarning, match="not used"):
        np.testing.assert_array_equal(everything(open_data(both, inputs))[wanted], x + 1)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressed", [False, True])
def test_rows_are_read_from_any_place(tmp_path, compressed, order):
    x = np.asarray(np.arange(200 * 12, dtype=np.float32).reshape(200, 12), order=order)
    data = open_data(npz(tmp_path, compressed, x=x, y=np.arange(200)), [FLAT], num_samples=23, seed=4)
    assert data.n == 23
    np.testing.assert_array_equal(everything(data)["x"], x[data.labels])
    assert set(data.labels) == set(np.random.default_rng(4).permutation(200)[:23])
    other = open_data(npz(tmp_path, x=x, y=np.arange(200)), [FLAT], num_samples=23, seed=5)
    assert set(other.labels) != set(data.labels)


def test_rows_too_many_to_keep_are_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr("modelkit.data.dataset.CACHE_BYTES", 100)
    x = np.arange(50 * 12, dtype=np.float32).reshape(50, 12)
    data = open_data(npz(tmp_path, True, x=x), [FLAT])
    for _ in range(2):
        np.testing.assert_array_equal(everything(data)["x"], x)


def test_several_inputs_go_by_name(tmp_path):
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    data = open_data(npz(tmp_path, attention_mask=np.ones((3, 4), bool), input_ids=ids), [IDS, MASK])
    got = everything(data)
    assert list(got) == ["input_ids", "attention_mask"] and got["input_ids"].dtype == got["attention_mask"].dtype == np.int64
    np.testing.assert_array_equal(got["input_ids"], ids)
    assert data.labels is None and next(data.batches(2))[1] is None


def test_npy(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((4, 12), np.float64))
    assert everything(open_data(str(tmp_path / "d.npy"), [FLAT]))["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("stored", "dims", "shape", "order"),
    [
        ((8, 6, 3), (3, 8, 6), (3, 8, 6), (2, 0, 1)),
        ((8, 6, 3), (3, "h", "w"), (3, 8, 6), (2, 0, 1)),
        ((3, 8, 6), (8, 6, 3), (8, 6, 3), (1, 2, 0)),
        ((8, 6, 1), (1, "h", "w"), (1, 8, 6), (2, 0, 1)),
        ((8, 6), (1, 8, 6), (1, 8, 6), None),
        ((8, 6), (1, "h", "w"), (1, 8, 6), None),
        ((8, 6), (8, 6, 1), (8, 6, 1), None),
        ((8, 6), (48,), (48,), None),
        ((48,), (1, 8, 6), (1, 8, 6), None),
        ((1, 3, 8, 6), (3, 8, 6), (3, 8, 6), None),
        ((3, 8, 6), ("c", "h", "w"), (3, 8, 6), None),
        ((), (1,), (1,), None),
        ((1,), (), (), None),
    ],
)
def test_layouts(tmp_path, stored, dims, shape, order):
    x = np.random.default_rng(0).normal(size=(5, *stored)).astype(np.float32)
    got = everything(open_data(npz(tmp_path, x=x), [Input("x", "float32", ("n", *dims))]))["x"]
    turned = x if order is None else x.transpose(0, *(axis + 1 for axis in order))
    np.testing.assert_array_equal(got, turned.reshape(5, *shape))


@settings(deadline=None, max_examples=150)
@given(hnp.array_shapes(min_dims=0, max_dims=4, max_side=6), st.lists(st.one_of(st.integers(1, 6), st.just("d")), max_size=4))
def test_a_layout_gives_the_wanted_shape_and_loses_no_value(given_shape, wanted):
    layout = fit(given_shape, wanted)
    if layout is None:
        return
    batch = np.arange(2 * int(np.prod(given_shape))).reshape(2, *given_shape)
    out = layout.apply(batch)
    assert len(out.shape[1:]) == len(wanted)
    assert all(isinstance(w, str) or w == s for w, s in zip(wanted, out.shape[1:], strict=True))
    for before, after in zip(batch, out, strict=True):
        assert sorted(before.ravel()) == sorted(after.ravel())


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 5), st.integers(1, 5))),
    st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3),
    st.lists(st.floats(0.125, 4, width=32), min_size=3, max_size=3),
)
def test_scaling_is_the_formula(raw, mean, std):
    got = scale(raw, Preprocessing(1 / 255, tuple(mean), tuple(std)), 0)
    expected = (raw / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_uint8_images_use_the_preprocessing_before_they_are_turned(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    how = Preprocessing(1 / 255, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = everything(open_data(npz(tmp_path, x=x), [IMAGE], preprocessing=how))["image"]
    expected = ((x / 255 - np.array(how.mean)) / np.array(how.std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert got.flags.c_contiguous


def test_uint8_without_preprocessing_warns(tmp_path):
    with pytest.warns(InputWarning, match="divided by 255"):
        data = open_data(npz(tmp_path, x=np.full((2, 12), 255, np.uint8)), [FLAT])
    np.testing.assert_array_equal(everything(data)["x"], 1)


def test_uint8_into_integer_and_integers_into_float(tmp_path):
    x = np.full((2, 12), 200, np.uint8)
    assert everything(open_data(npz(tmp_path, x=x), [Input("x", "uint8", ("n", 12))]))["x"].max() == 200
    assert everything(open_data(npz(tmp_path, x=x), [Input("x", "int32", ("n", 12))]))["x"].dtype == np.int32
    with pytest.warns(InputWarning, match="unscaled"):
        assert everything(open_data(npz(tmp_path, x=x.astype(np.int64)), [FLAT]))["x"].max() == 200


@pytest.mark.parametrize("wanted", ["float16", "float32", "float64", "bfloat16"])
def test_float_casts(tmp_path, wanted):
    x = np.linspace(-2, 2, 24).reshape(2, 12)
    got = everything(open_data(npz(tmp_path, x=x), [Input("x", wanted, ("n", 12))]))["x"]
    assert got.dtype.name == wanted
    np.testing.assert_allclose(got.astype(float), x, atol=0.01)


def test_padded_batches(tmp_path):
    data = open_data(npz(tmp_path, x=np.arange(60.0).reshape(5, 12), y=np.arange(5)), [Input("x", "float32", (4, 12))])
    assert data.fixed_batch == 4
    batches = list(data.padded_batches(4))
    assert [len(f["x"]) for f, _, _ in batches] == [4, 4] and [valid for *_, valid in batches] == [4, 1]
    assert batches[1][1].tolist() == [4]
    np.testing.assert_array_equal(batches[1][0]["x"][0], batches[1][0]["x"][3])
    with pytest.raises(ModelkitError, match="batch size 0"):
        list(data.batches(0))


def test_extra_arrays_and_too_many_samples_warn(tmp_path):
    path = npz(tmp_path, x=np.ones((2, 12)), ids=np.arange(2))
    with pytest.warns(InputWarning, match="ids not used"):
        open_data(path, [FLAT])
    with pytest.warns(InputWarning, match="only 2 of the 9"):
        open_data(npz(tmp_path, x=np.ones((2, 12))), [FLAT], num_samples=9)


def test_an_input_may_be_called_y(tmp_path):
    data = open_data(npz(tmp_path, y=np.ones((2, 12))), [Input("y", "float32", ("n", 12))])
    assert data.labels is None and data.n == 2


def test_labels_by_another_name_and_float_targets(tmp_path):
    path = npz(tmp_path, x=np.ones((2, 12)), score=np.array([0.5, 1.5]))
    assert open_data(path, [FLAT], label="score").labels.tolist() == [0.5, 1.5]
    column = npz(tmp_path, x=np.ones((2, 12)), Labels=np.array([[1], [0]], np.uint8))
    assert open_data(column, [FLAT]).labels.tolist() == [1, 0]


X = np.ones((4, 12), np.float32)
BAD = {
    "wrong name": (dict(a=X, b=X), [FLAT], r"x:float32\[batch,12\].*a:float32\[4,12\], b:float32\[4,12\]"),
    "wrong shape": (dict(x=np.ones((4, 13))), [FLAT], r"x:float64\[4,13\] .* x:float32\[batch,12\].*\[samples,12\]"),
    "rank": (dict(x=np.ones((4, 3, 8))), [IMAGE], r"does not fit input image:float32\[batch,3,8,6\]"),
    "text": (dict(x=np.full((4, 12), "a")), [FLAT], "not numbers"),
    "complex": (dict(x=X * 1j), [FLAT], "not numbers"),
    "float for int": (dict(input_ids=X), [IDS], r"float32 values can't be given to a int64 input"),
    "no samples": (dict(x=X[:0]), [FLAT], "holds no samples"),
    "lengths": (
        dict(input_ids=np.ones((3, 4), int), attention_mask=np.ones((2, 4), int)),
        [IDS, MASK],
        "different numbers of samples",
    ),
    "symbol": (dict(input_ids=np.ones((3, 4), int), attention_mask=np.ones((3, 5), int)), [IDS, MASK], "'length' is 4 .* but 5"),
    "missing": (dict(input_ids=np.ones((3, 4), int)), [IDS, MASK], r"no data for input attention_mask:int64\[batch,length\]"),
    "labels": (dict(x=X, y=np.arange(3)), [FLAT], r"4 samples but labels of shape \[3\]"),
    "text labels": (dict(x=X, y=np.full(4, "cat")), [FLAT], "not numbers"),
    "nan labels": (dict(x=X, y=np.full(4, np.nan)), [FLAT], "NaN"),
    "nan": (dict(x=np.where(np.arange(12) == 3, np.nan, X)), [FLAT], "NaN or infinite"),
    "inf": (dict(x=X * np.inf), [FLAT], "NaN or infinite"),
    "overflow": (dict(x=X * 1e6), [Input("x", "float16", ("n", 12))], "too large"),
    "int overflow": (dict(x=np.full((4, 12), 2**40)), [Input("x", "int32", ("n", 12))], "outside the range"),
    "negative": (dict(x=np.full((4, 12), -1)), [Input("x", "uint8", ("n", 12))], "outside the range"),
    "bool": (dict(x=np.full((4, 12), 2)), [Input("x", "bool", ("n", 12))], "outside the range"),
    "scalar": (dict(x=np.float32(1)), [FLAT], "single number"),
    "no batch": (dict(x=X), [Input("x", "float32", ())], "no batch dimension"),
    "objects": (dict(x=np.array([object()] * 4)), [FLAT], "Python objects"),
    "empty": ({}, [FLAT], "holds no arrays"),
    "no inputs": (dict(x=X), [], "no inputs"),
}


@pytest.mark.filterwarnings("ignore::modelkit.core.errors.InputWarning")
@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(tmp_path, case):
    arrays, inputs, message = BAD[case]
    with pytest.raises(ModelkitError, match=message):
        list(open_data(npz(tmp_path, **arrays), inputs).batches(2))


@pytest.mark.filterwarnings("ignore::modelkit.core.errors.InputWarning")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(label="other"), "no label 'other'"),
        (dict(label_required=True), "has no labels"),
        (dict(num_samples=0), "leaves no data"),
        (dict(preprocessing=Preprocessing(mean=(1.0, 2.0))), "--mean has 2 values"),
        (dict(preprocessing=Preprocessing(std=(0.0,))), "standard deviation of 0"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(ModelkitError, match=message):
        open_data(npz(tmp_path, x=np.ones((3, 12), np.uint8)), [FLAT], **options)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_archives(tmp_path, compressed):
    whole = Path(npz(tmp_path, compressed, x=np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32))).read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "zeros": bytes(200)}.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(ModelkitError, match=f"{name}.npz"):
            list(open_data(str(path), [FLAT]).batches(8))


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_a_flipped_byte_never_raises_anything_else(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip")
    compressed = data.draw(st.booleans())
    content = bytearray(Path(npz(folder, compressed, x=np.ones((6, 12), np.float32), y=np.arange(6))).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "flipped.npz"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            list(open_data(str(path), [FLAT]).batches(4))
        except ModelkitError:
            pass


def test_damaged_npy(tmp_path):
    np.save(tmp_path / "d.npy", X)
    whole = (tmp_path / "d.npy").read_bytes()
    for content in (b"", b"\x93NUMPY", whole[:60], whole[:-1], b"junk" * 50):
        (tmp_path / "d.npy").write_bytes(content)
        with pytest.raises(ModelkitError, match="d.npy"):
            open_data(str(tmp_path / "d.npy"), [FLAT])


@pytest.mark.parametrize("spec", ["nowhere.npz", "nowhere", "no.such:function", "data.h5"])
def test_nothing_there(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.h5").write_bytes(b"x")
    with pytest.raises(ModelkitError):
        open_data(spec, [FLAT])
