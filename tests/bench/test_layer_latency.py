"""Times of layers are measured once and kept on disk; a cache that is broken or can't be written costs nothing but time."""

import json
from math import prod

import pytest

from modelkit.bench import layer_latency
from modelkit.bench.layer_latency import LayerLatency
from modelkit.core.graph import Edge, Graph, Input, Node, Parameter


def graph(*widths, kind="linear", groups=1, stride=1, transposed=False):
    """Layers of these widths, one behind the other, on 8 positions (linear) or 8×8 pixels (conv)."""
    nodes, edges = [], {}
    for index, width in enumerate(widths):
        shape = (1, 8, width) if kind == "linear" else (1, width, 8, 8)
        edges[f"e{index}"] = Edge(f"e{index}", shape, "float32")
        if index:
            size = (width, widths[index - 1] // groups, *(() if kind == "linear" else (3, 3)))
            attributes = {"groups": groups, "stride": (stride,) * 2, "dilation": (1, 1), "padding": ((1, 1),) * 2}
            attributes |= {"transposed": transposed}
            weight = Parameter("w", size, "float32", 4 * prod(size))
            nodes.append(Node(f"l{index}", kind, "op", (f"e{index - 1}",), (f"e{index}",), {"weight": weight}, attributes))
    return Graph(tuple(nodes), edges, (Input("e0", "float32", (1,)),), (f"e{len(widths) - 1}",))


@pytest.fixture
def timed(monkeypatch):
    """Instead of a clock: one call more takes one millisecond more. The list of times given out."""
    given = []

    def least_ms(run):
        run()
        given.append(float(len(given) + 1))
        return given[-1]

    monkeypatch.setattr(layer_latency, "least_ms", least_ms)
    return given


def only_file(folder):
    (file,) = folder.iterdir()
    return file


def test_each_size_is_timed_once(timed, tmp_path):
    latency = LayerLatency("onnxruntime", 1, tmp_path)
    whole = latency(graph(16, 32, 16, 32, 16))
    assert len(timed) == 2  # 16 → 32 and 32 → 16
    assert whole == pytest.approx(2 * sum(timed) / 8)  # in chains of eight
    latency(graph(16, 32))
    assert len(timed) == 2


def test_processors_of_one_name_share_no_times(timed, tmp_path, monkeypatch):
    for isa in (("avx2",), ("avx2", "avx512f")):
        monkeypatch.setattr(layer_latency, "instruction_sets", lambda isa=isa: isa)
        latency = LayerLatency("onnxruntime", 1, tmp_path)
        latency(graph(16, 32))
        latency.save()
    assert len(timed) == len(list(tmp_path.iterdir())) == 2


def test_widths_in_one_block_are_one_size(timed, tmp_path):
    latency = LayerLatency("onnxruntime", 1, tmp_path)
    assert latency(graph(16, 25)) == latency(graph(16, 32)) == latency(graph(9, 27))
    assert len(timed) == 1
    latency(graph(16, 33))
    assert len(timed) == 2


def test_what_was_measured_is_read_back(timed, tmp_path):
    first = LayerLatency("onnxruntime", 1, tmp_path)
    found = first(graph(16, 32))
    assert not list(tmp_path.iterdir())
    first.save()
    assert LayerLatency("onnxruntime", 1, tmp_path)(graph(16, 32)) == found
    assert len(timed) == 1
    written = only_file(tmp_path).stat().st_mtime_ns
    first.save()  # nothing new
    assert only_file(tmp_path).stat().st_mtime_ns == written


def test_times_of_another_runtime_or_number_of_threads_are_others(timed, tmp_path):
    for runtime, threads in (("onnxruntime", 1), ("onnxruntime", 2), ("torch", 1)):
        latency = LayerLatency(runtime, threads, tmp_path)
        latency(graph(16, 32))
        latency.save()
    assert len(timed) == len(list(tmp_path.iterdir())) == 3


def test_two_processes_keep_each_others_times(timed, tmp_path):
    one, other = (LayerLatency("onnxruntime", 1, tmp_path) for _ in range(2))
    one(graph(16, 32))
    other(graph(16, 64))
    one.save()
    other.save()
    LayerLatency("onnxruntime", 1, tmp_path)(graph(16, 32)) + LayerLatency("onnxruntime", 1, tmp_path)(graph(16, 64))
    assert len(timed) == 2


@pytest.mark.parametrize("text", [b"", b'{"unfinished": 1', b"[1, 2]", b'{"layer": "fast"}', b'{"layer": null}', b"\xff\x00"])
def test_a_damaged_cache_is_measured_anew(timed, tmp_path, text):
    first = LayerLatency("onnxruntime", 1, tmp_path)
    first(graph(16, 32))
    first.save()
    only_file(tmp_path).write_bytes(text)
    again = LayerLatency("onnxruntime", 1, tmp_path)
    again(graph(16, 32))
    assert len(timed) == 2
    again.save()
    assert list(json.loads(only_file(tmp_path).read_text()).values()) == [2 / 8]


def test_a_cache_that_cannot_be_written_is_done_without(timed, tmp_path):
    (tmp_path / "file").write_text("in the way")
    latency = LayerLatency("onnxruntime", 1, tmp_path / "file" / "cache")
    assert latency(graph(16, 32)) == timed[0] / 8
    latency.save()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_cache_lies_where_the_system_says(timed, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    latency = LayerLatency("onnxruntime", 1)
    latency(graph(16, 32))
    latency.save()
    assert only_file(tmp_path / "modelkit").suffix == ".json"


def test_layers_that_are_not_timed_count_nothing(timed, tmp_path):
    assert LayerLatency("onnxruntime", 1, tmp_path)(graph(16, 32, kind="conv", transposed=True)) == 0
    assert not timed


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
@pytest.mark.parametrize("sizes", [{}, {"kind": "conv"}, {"kind": "conv", "groups": 16}, {"kind": "conv", "stride": 2}])
def test_both_runtimes_run_every_kind_of_layer(tmp_path, monkeypatch, runtime, sizes):
    monkeypatch.setattr(layer_latency, "_SECONDS", 0.0)
    small, large = (LayerLatency(runtime, 1, tmp_path)(graph(width, width, **sizes)) for width in (16, 256))
    assert 0 < small < large
