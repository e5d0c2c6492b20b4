"""Folders and archives of images."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.core.graph import Input
from modelkit.core.model import Preprocessing
from modelkit.data import open_data

Image = pytest.importorskip("PIL.Image")

COLOUR = Input("image", "float32", ("batch", 3, 8, 6))
RAW = Preprocessing(1.0)


def save(path: Path, size: tuple[int, int] = (6, 8), colour: tuple[int, int, int] = (10, 20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of a class `cat`, one of `dog`; each green value tells which it is."""
    for i, name in enumerate(("cat/b.png", "cat/a.png", "dog/deep/c.bmp")):
        save(tmp_path / "photos" / name, colour=(0, i, 255))
    (tmp_path / "photos" / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path / "photos"


@pytest.fixture(params=["folder", "zip", "nested zip"])
def spec(request, folder: Path) -> str:
    if request.param == "folder":
        return str(folder)
    root = folder if request.param == "zip" else folder.parent
    return shutil.make_archive(str(folder.parent.parent / f"{request.param}-{folder.parent.name}"), "zip", root)


def test_class_folders(spec):
    data = open_data(spec, [COLOUR], preprocessing=RAW, label_required=True)
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == [0, 0, 1]
    (feeds, labels), (last, _) = data.batches(2)
    assert feeds["image"].shape == (2, 3, 8, 6) and feeds["image"].dtype == np.float32 and labels.tolist() == [0, 0]
    assert feeds["image"][:, 1, 0, 0].tolist() == [1, 0] and last["image"][0, 1, 0, 0] == 2
    assert (feeds["image"][:, 0] == 0).all() and (feeds["image"][:, 2] == 255).all()


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        ((3, 8, 6), (3, 8, 6)),
        ((8, 6, 3), (8, 6, 3)),
        ((1, 4, 4), (1, 4, 4)),
        ((8, 6), (8, 6)),
        ((16,), (16,)),
        ((3, 20, 10), (3, 20, 10)),
    ],
)
def test_images_take_the_input_s_size(folder, dims, shape):
    data = open_data(str(folder), [Input("x", "float32", ("n", *dims))], preprocessing=RAW)
    assert next(data.batches(3))[0]["x"].shape == (3, *shape)


def test_the_shorter_side_is_resized_and_the_centre_cut_out(tmp_path):
    wide = np.zeros((8, 32, 3), np.uint8)
    wide[:, 12:20] = 200
    (tmp_path / "a").mkdir()
    Image.fromarray(wide).save(tmp_path / "a" / "w.png")
    centre = next(open_data(str(tmp_path), [Input("x", "uint8", ("n", 3, 8, 8))]).batches(1))[0]["x"]
    assert (centre == 200).all()
    half = next(open_data(str(tmp_path), [Input("x", "uint8", ("n", 3, 4, 4))]).batches(1))[0]["x"]
    assert half.shape == (1, 3, 4, 4) and half[0, 0, :, 1:3].min() > 190


def test_a_free_size_is_that_of_the_first_image(folder):
    save(folder / "dog" / "big.png", (60, 80))
    with pytest.warns(InputWarning, match="8×6, the size of the first"):
        data = open_data(str(folder), [Input("x", "float32", ("n", 3, "h", "w"))], preprocessing=RAW)
    assert next(data.batches(9))[0]["x"].shape == (4, 3, 8, 6)


def test_images_without_class_folders_have_no_labels(tmp_path):
    save(tmp_path / "1.png")
    data = open_data(str(tmp_path), [COLOUR], preprocessing=RAW)
    assert data.n == 1 and data.labels is None and data.class_names is None
    with pytest.raises(ModelkitError, match="no labels"):
        open_data(str(tmp_path), [COLOUR], preprocessing=RAW, label_required=True)


def test_numbered_folders_out_of_order_warn(tmp_path):
    for name in ("1", "2", "10"):
        save(tmp_path / name / "x.png")
    with pytest.warns(InputWarning, match="sorted order"):
        assert open_data(str(tmp_path), [COLOUR], preprocessing=RAW).class_names == ("1", "10", "2")


def test_no_preprocessing_warns(folder):
    with pytest.warns(InputWarning, match="divided by 255"):
        data = open_data(str(folder), [COLOUR])
    assert next(data.batches(1))[0]["image"].max() == 1


def test_a_sample_keeps_its_labels(folder):
    for i in range(20):
        save(folder / f"class{i:02}" / "x.png", colour=(0, 0, i))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = open_data(str(folder), [COLOUR], preprocessing=RAW, num_samples=7, seed=3)
    values = np.concatenate([f["image"][:, 2, 0, 0] for f, _ in data.batches(2)])
    names = [data.class_names[label] for label in data.labels]
    assert data.n == 7
    assert all(name == f"class{int(v):02}" for name, v in zip(names, values, strict=True) if name.startswith("class"))


def _break(folder: Path, case: str) -> None:
    target = folder / "cat" / "a.png"
    if case == "truncated":
        target.write_bytes(target.read_bytes()[:40])
    elif case == "not an image":
        target.write_bytes(b"hello")
    elif case == "16 bits":
        Image.fromarray(np.zeros((8, 6), np.uint16)).save(target)
    elif case == "loose":
        save(folder / "loose.png")
    elif case == "none":
        shutil.rmtree(folder)
        folder.mkdir()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("truncated", r"cat/a.png in photos can't be read"),
        ("not an image", r"cat/a.png in photos can't be read"),
        ("16 bits", "not 8-bit"),
        ("loose", "1 images beside its class folders"),
        ("none", "holds no images"),
    ],
)
def test_bad_folders(folder, case, message):
    _break(folder, case)
    with pytest.raises(ModelkitError, match=message):
        list(open_data(str(folder), [COLOUR], preprocessing=RAW).batches(2))


@pytest.mark.parametrize("inputs", [[COLOUR, COLOUR], [Input("x", "float32", ("n", 5, 8, 6))], [Input("x", "float32", ("n", 7))]])
def test_models_that_take_no_images(folder, inputs):
    with pytest.raises(ModelkitError, match="photos"):
        open_data(str(folder), inputs, preprocessing=RAW)


def test_damaged_zip(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ModelkitError, match="not a whole .zip"):
        open_data(str(tmp_path / "x.zip"), [COLOUR])


def test_without_pillow_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ModelkitError, match=r"pip install 'modelkit\[images\]'"):
        list(open_data(str(folder), [COLOUR], preprocessing=RAW).batches(1))
