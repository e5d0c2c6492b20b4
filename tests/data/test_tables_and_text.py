"""CSV and Parquet tables, text for language models, and the user's own function."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.core.graph import Input
from modelkit.data import open_data

FEATURES = Input("x", "float32", ("n", 3))
IDS = Input("input_ids", "int64", ("batch", "length"))
MASK = Input("attention_mask", "int64", ("batch", "length"))


def write(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content, encoding="utf-8")
    return str(folder / name)


def first(dataset):
    return next(dataset.batches(100))[0]


CSV = "a,label,b,c\n1,0,2.5,3\n4,1,5,6e0\n\n"


def test_csv_features_and_label(tmp_path):
    data = open_data(write(tmp_path, "t.csv", "\ufeff" + CSV), [FEATURES], label_required=True)
    np.testing.assert_array_equal(first(data)["x"], np.array([[1, 2.5, 3], [4, 5, 6]], np.float32))
    assert data.labels.tolist() == [0, 1] and data.labels.dtype == np.int64 and data.class_names is None


def test_csv_columns_named_as_inputs(tmp_path):
    inputs = [Input("user", "int64", ("n",)), Input("price", "float32", ("n", 1))]
    with pytest.warns(InputWarning, match="note not used"):
        data = open_data(write(tmp_path, "t.csv", "price,user,y,note\n0.5,7,1,3\n1.5,9,0,4\n"), inputs)
    got = first(data)
    assert got["user"].tolist() == [7, 9] and got["user"].dtype == np.int64 and got["price"].tolist() == [[0.5], [1.5]]


def test_csv_labels_may_be_names_or_targets(tmp_path):
    path = write(tmp_path, "t.csv", "a,b,c,y\n1,2,3,dog\n1,2,3,cat\n1,2,3,dog\n")
    with pytest.warns(InputWarning, match="cat, dog"):
        data = open_data(path, [FEATURES])
    assert data.labels.tolist() == [1, 0, 1] and data.class_names == ("cat", "dog")
    assert open_data(write(tmp_path, "f.csv", "a,b,c,target\n1,2,3,0.5\n"), [FEATURES]).labels.tolist() == [0.5]
    assert open_data(write(tmp_path, "g.csv", "a,b,c,kind\n1,2,3,2\n"), [FEATURES], label="kind").labels.tolist() == [2]


def test_csv_pixels_become_an_image(tmp_path):
    header = ",".join(f"pixel{i}" for i in range(12))
    path = write(tmp_path, "t.csv", f"label,{header}\n3,{','.join(map(str, range(12)))}\n")
    got = first(open_data(path, [Input("x", "float32", ("n", 1, 4, 3))]))["x"]
    np.testing.assert_array_equal(got.ravel(), np.arange(12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,b,c\n", "holds no samples"),
        ("1,2,3\n4,5,6\n", "no header line"),
        ("a,b,a\n1,2,3\n", "two columns named 'a'"),
        ("a,b,c\n1,2\n", "line 2: 2 values for 3 columns"),
        ("a,b,c\n1,two,3\n", "line 2, column 'b': 'two' is not a number"),
        ("a,b,c\n1,,3\n", "line 2, column 'b': a value is missing"),
        ("a,b,c\n1,nan,3\n", "NaN or infinite"),
        ("a,b\n1,2\n", r"x:float32\[1,2\] .*does not fit input x:float32\[n,3\]"),
        ("label\n1\n", "no feature columns"),
        ("a,b,c\n1,\x00\n", "t.csv"),
        ('a,b,c\n1,2,"3\n', "t.csv is not a CSV file"),
    ],
)
def test_bad_csv(tmp_path, content, message):
    with pytest.raises(ModelkitError, match=message):
        first(open_data(write(tmp_path, "t.csv", content), [FEATURES]))


def test_csv_that_is_no_text_or_has_no_such_column(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00a,b\n")
    with pytest.raises(ModelkitError, match="not a CSV file in UTF-8"):
        open_data(str(tmp_path / "t.csv"), [FEATURES])
    path = write(tmp_path, "u.csv", CSV)
    with pytest.raises(ModelkitError, match="no label 'z'"):
        open_data(path, [FEATURES], label="z")
    with pytest.raises(ModelkitError, match=r"no column for user:int64\[n\]"):
        open_data(path, [Input("user", "int64", ("n",)), Input("a", "float32", ("n",))])
    with pytest.raises(ModelkitError, match="float32|float64"):
        open_data(path, [Input("x", "int64", ("n", 3))])


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_no_bytes_in_a_csv_raise_anything_else(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(b"a,b,c\n" + content)
    try:
        first(open_data(str(path), [FEATURES]))
    except ModelkitError:
        pass


def test_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "t.parquet")
    table = {"a": [1, 2], "b": [1.5, 2.5], "c": [True, False], "label": [0, 1]}
    parquet.write_table(arrow.table(table), path)
    data = open_data(path, [FEATURES], label_required=True)
    np.testing.assert_array_equal(first(data)["x"], [[1, 1.5, 1], [2, 2.5, 0]])
    assert data.labels.tolist() == [0, 1]
    parquet.write_table(arrow.table({"vector": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "y": ["b", "a"]}), path)
    with pytest.warns(InputWarning, match="Labels are names"):
        data = open_data(path, [FEATURES])
    assert first(data)["x"].tolist() == [[1, 2, 3], [4, 5, 6]] and data.class_names == ("a", "b")
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    nested = arrow.array(images.tolist(), type=arrow.list_(arrow.list_(arrow.uint8())))
    parquet.write_table(arrow.table({"image": nested}), path)
    with pytest.warns(InputWarning, match="divided by 255"):
        data = open_data(path, [Input("image", "float32", ("n", 1, 3, 4))])
    np.testing.assert_allclose(first(data)["image"][:, 0], images / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1, None], "b": [1, 2], "c": [1, 2]}, "'a': 1 values are missing"),
        ({"a": ["x", "y"], "b": [1, 2], "c": [1, 2]}, "'a' holds text"),
        ({"v": [[1.0], [1.0, 2.0]]}, "different lengths"),
        ({"v": [[1.0], [1.0]], "w": [1, 2]}, "mixes list columns"),
    ],
)
def test_bad_parquet(tmp_path, columns, message):
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), str(tmp_path / "t.parquet"))
    with pytest.raises(ModelkitError, match=message):
        open_data(str(tmp_path / "t.parquet"), [FEATURES])


def test_parquet_that_is_none_and_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = write(tmp_path, "t.parquet", "hello")
    pytest.importorskip("pyarrow")
    with pytest.raises(ModelkitError, match="not a whole Parquet file"):
        open_data(path, [FEATURES])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModelkitError, match=r"modelkit\[tables\]"):
        open_data(path, [FEATURES])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """A folder with a word-level tokenizer: one, two, … are the ids from 4 on."""
    tokenizers = pytest.importorskip("tokenizers")
    words = ["<pad>", "<end>", "<unk>", "<cls>", *"one two three four five six seven eight".split()]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<cls> $A", special_tokens=[("<cls>", 3)])
    folder = tmp_path_factory.mktemp("checkpoint")
    made.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<end>", "pad_token": {"content": "<pad>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_text_is_cut_into_windows(tmp_path, tokenizer):
    path = write(tmp_path, "t.txt", "one two three\nfour five six seven")
    data = open_data(
        path, [Input("input_ids", "int64", ("b", 3)), Input("attention_mask", "int64", ("b", 3))], tokenizer=tokenizer
    )
    got = first(data)
    assert got["input_ids"].tolist() == [[4, 5, 6], [7, 8, 9]] and (got["attention_mask"] == 1).all()
    np.testing.assert_array_equal(data.labels, got["input_ids"])
    assert first(open_data(path, [Input("tokens", "int32", ("b", "n"))], tokenizer=tokenizer))["tokens"].shape == (1, 7)


def test_documents_are_joined_by_the_end_token(tmp_path, tokenizer):
    path = write(tmp_path, "t.jsonl", '{"text": "one two"}\n\n"three"\n')
    assert first(open_data(path, [IDS], tokenizer=tokenizer))["input_ids"].tolist() == [[4, 5, 1, 6, 1]]


def test_labelled_records_are_padded_samples(tmp_path, tokenizer):
    path = write(tmp_path, "t.jsonl", '{"text": "one two", "label": 1}\n{"text": "three", "label": 0}\n')
    kinds = Input("token_type_ids", "int64", ("batch", "length"))
    data = open_data(path, [IDS, MASK, kinds], tokenizer=tokenizer, label_required=True)
    got = first(data)
    assert got["input_ids"].tolist() == [[3, 4, 5], [3, 6, 0]] and got["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert data.labels.tolist() == [1, 0] and (got["token_type_ids"] == 0).all()
    with pytest.warns(InputWarning, match="no attention_mask"):
        open_data(path, [IDS], tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("name", "content", "inputs", "message"),
    [
        ("t.txt", "", [IDS], "0 tokens, fewer than one window"),
        ("t.txt", "one two", [Input("input_ids", "int64", ("b", 8))], "2 tokens, fewer than one window of 8"),
        ("t.txt", "one", [FEATURES], r"takes x:float32\[n,3\], no token ids"),
        ("t.txt", "one", [IDS, Input("past", "float32", ("b", 2))], "no data for input past"),
        ("t.jsonl", "{one", [IDS], "line 1 is not a record"),
        ("t.jsonl", '{"body": "one"}', [IDS], "line 1 is not a record"),
        ("t.jsonl", '{"text": 1}', [IDS], "line 1 is not a record"),
        ("t.jsonl", '{"text": "one", "label": 1}\n{"text": "two"}', [IDS], "record 2 has no number as its 'label'"),
        ("t.jsonl", "", [IDS], "0 tokens"),
    ],
)
def test_bad_text(tmp_path, tokenizer, name, content, inputs, message):
    with pytest.raises(ModelkitError, match=message):
        open_data(write(tmp_path, name, content), inputs, tokenizer=tokenizer)


def test_text_needs_a_tokenizer_and_utf8(tmp_path, tokenizer, monkeypatch):
    path = write(tmp_path, "t.txt", "one")
    with pytest.raises(ModelkitError, match="no tokenizer.*token ids"):
        open_data(path, [IDS])
    (tmp_path / "bad").mkdir()
    write(tmp_path / "bad", "tokenizer.json", "{}")
    with pytest.raises(ModelkitError, match="can't be loaded"):
        open_data(path, [IDS], tokenizer=tmp_path / "bad")
    (tmp_path / "u.txt").write_bytes(b"\xff\xff")
    with pytest.raises(ModelkitError, match="not text in UTF-8"):
        open_data(str(tmp_path / "u.txt"), [IDS], tokenizer=tokenizer)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModelkitError, match=r"modelkit\[text\]"):
        open_data(path, [IDS], tokenizer=tokenizer)


FUNCTIONS = """
import numpy as np

def arrays():
    for i in range(3):
        yield np.full((2, 3), i, np.float32)

def pairs():
    for i in range(3):
        yield {"x": np.full((2, 3), i, np.float32)}, np.full(2, i)

def endless():
    i = 0
    while True:
        yield np.full((2, 3), i, np.float32)
        i += 1

def tensors():
    import torch
    yield torch.ones(2, 3, requires_grad=True)

def nothing():
    return []

def unlike():
    yield np.ones((2, 3))
    yield np.ones((2, 4))

def sometimes():
    yield np.ones((2, 3)), [1, 2]
    yield np.ones((2, 3))

def words():
    yield ["a", object()]

def fails():
    raise RuntimeError("out of coffee")

number = 3
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "my_batches.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    yield "my_batches"
    sys.modules.pop("my_batches", None)


def test_functions(functions):
    data = open_data(f"{functions}:arrays", [FEATURES])
    assert data.n == 6 and first(data)["x"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    pairs = open_data(f"{functions}:pairs", [FEATURES], label_required=True, num_samples=4)
    assert pairs.n == 4 and pairs.labels.tolist() == first(pairs)["x"][:, 0].tolist()
    assert open_data(f"{functions}:endless", [FEATURES], num_samples=10).n == 10
    assert str(Path.cwd()) not in sys.path


def test_a_function_may_yield_tensors(functions):
    pytest.importorskip("torch")
    assert first(open_data(f"{functions}:tensors", [FEATURES]))["x"].tolist() == [[1] * 3] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "yields no batches"),
        ("unlike", "different shapes for 'x'"),
        ("sometimes", "Batch 2"),
        ("words", "no array"),
        ("fails", "RuntimeError: out of coffee"),
        ("number", "not a function"),
        ("absent", "no function absent"),
    ],
)
def test_bad_functions(functions, name, message):
    with pytest.raises(ModelkitError, match=message):
        open_data(f"{functions}:{name}", [FEATURES])


def test_a_module_that_can_t_be_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "broken_batches.py", "1 / 0")
    with pytest.raises(ModelkitError, match="ZeroDivisionError"):
        open_data("broken_batches:batches", [FEATURES])
    with pytest.raises(ModelkitError, match="no file and no module"):
        open_data("nowhere_at_all:batches", [FEATURES])
