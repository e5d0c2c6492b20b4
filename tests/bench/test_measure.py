"""Measuring tiny ONNX models for real: worker processes, files, signals."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import psutil
import pytest

from modelkit.bench import contender
from modelkit.bench.measure import measure
from modelkit.bench.worker import read_arrays, write_arrays
from modelkit.bench.worker_process import WorkerProcess
from modelkit.core.errors import AccuracyWarning, ModelkitError, NoiseWarning
from modelkit.core.graph import Input
from tests.bench.small_models import deep_onnx, linear_onnx, subject

pytestmark = pytest.mark.filterwarnings("ignore::modelkit.core.errors.NoiseWarning")


class Arrays:
    """A data set in memory, with what measuring asks of one."""

    origin = "arrays"
    class_names = None

    def __init__(self, x, labels=None):
        self.n, self._x, self.labels = len(x), x, labels
        self.inputs = (Input("x", "float32", ("batch", *x.shape[1:])),)

    def padded_batches(self, size):
        for start in range(0, self.n, size):
            part = self._x[start : start + size]
            rows = np.arange(size) % len(part)
            yield {"x": part[rows]}, None if self.labels is None else self.labels[start : start + size], len(part)


@pytest.fixture
def linear(tmp_path):
    return subject(linear_onnx(tmp_path / "linear.onnx"))


def test_a_measurement_has_everything_and_is_json(linear):
    steps = []
    (found,) = measure([linear], max_time=0.3, threads=1, progress=lambda what, part: steps.append((what, part)))
    assert (found.model, found.runtime, found.device, found.threads, found.batch_size) == (
        "linear.onnx",
        "onnxruntime",
        "cpu",
        1,
        1,
    )
    latency = found.latency_ms
    assert 0 < latency.min <= latency.p50 <= latency.p90 <= latency.p99
    assert latency.ci95[0] <= latency.p50 <= latency.ci95[1]
    assert latency.n == len(latency.samples) > 50
    assert found.throughput_per_s.value == pytest.approx(1000 / latency.mean)
    low, high = found.throughput_per_s.ci95
    assert low <= found.throughput_per_s.value <= high
    assert 10e6 < found.peak_memory_bytes < 1e9
    assert found.quality == {}
    assert json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))["latency_ms"]["n"] == latency.n
    assert all(0 <= part <= 1 for _, part in steps)
    assert any("measuring" in what for what, _ in steps)


def test_a_model_of_four_times_the_work_takes_longer(tmp_path):
    short, long = (subject(deep_onnx(tmp_path / f"{n}.onnx", n)) for n in (4, 16))
    found = measure([short, long], batch_sizes=[8, 1], max_time=0.4, threads=1)
    assert [(m.model, m.batch_size) for m in found] == [("4.onnx", 8), ("16.onnx", 8), ("4.onnx", 1), ("16.onnx", 1)]
    for first, second in (found[:2], found[2:]):
        assert second.latency_ms.p50 > 1.5 * first.latency_ms.p50
    assert found[0].throughput_per_s.value > found[2].throughput_per_s.value


def test_nothing_imports_torch(tmp_path, monkeypatch):
    """A torch that can't be imported goes first on the path of the parent and of its workers."""
    poison = tmp_path / "poison"
    poison.mkdir()
    for name in ("torch", "onnx_ir", "onnxscript"):
        (poison / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    linear_onnx(tmp_path / "m.onnx")
    code = (
        "import sys, pathlib\n"
        "from tests.bench.small_models import subject\n"
        "from modelkit.bench.measure import measure\n"
        "from modelkit.bench.environment import environment\n"
        "from modelkit.bench.doctor import advice\n"
        f"found = measure([subject(pathlib.Path({str(tmp_path / 'm.onnx')!r}))], max_time=0.1, threads=1)\n"
        "assert found and advice(environment())\n"
        "assert not {'torch', 'onnx_ir', 'onnxscript'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(poison), os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_quality_with_labels_and_against_the_original(tmp_path):
    original = subject(linear_onnx(tmp_path / "original.onnx", seed=0), "original")
    other = subject(linear_onnx(tmp_path / "other.onnx", seed=1), "other")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((301, 16)).astype(np.float32)
    with WorkerProcess("original", 1) as worker:
        worker.ask("load", runtime="onnxruntime", path=str(original.path), device="cpu", threads=1)
        write_arrays(tmp_path / "x.npz", {"x": x})
        worker.ask("outputs", feeds=str(tmp_path / "x.npz"), to=str(tmp_path / "y.npz"))
    labels = read_arrays(tmp_path / "y.npz")["0"].argmax(1)
    labels[:30] = (labels[:30] + 1) % 4
    found = measure(
        [original, other], max_time=0.1, threads=1, dataset=Arrays(x, labels), metrics=["accuracy", "agreement", "sqnr"]
    )
    first, second = found[0].quality, found[1].quality
    assert set(first) == {"accuracy"}
    assert first["accuracy"].value == pytest.approx(271 / 301)
    assert first["accuracy"].n == 301
    assert first["accuracy"].ci95[0] < 271 / 301 < first["accuracy"].ci95[1]
    assert set(second) == {"accuracy", "agreement", "sqnr"}
    assert 0 < second["agreement"].value < 0.6
    assert second["sqnr"].value < 5


@pytest.mark.parametrize(
    ("target", "isa", "device", "said"),
    [
        ("vnni", "avx2", "cpu", "saturate"), ("vnni", "vnni", "cpu", None), ("avx2", "avx2", "cpu", None),
        (None, "avx2", "cpu", None),
        ("vnni", "vnni", "cuda", "--target cuda"), ("cuda", "vnni", "cuda", None), ("cuda", "avx2", "cpu", "saturate"),
    ],
)  # fmt: skip
def test_a_layout_for_another_processor_is_told(target, isa, device, said, monkeypatch):
    monkeypatch.setattr(contender, "target_isa", lambda: isa)
    assert said is None or said in contender._unsuited(target, device)
    assert said is not None or contender._unsuited(target, device) is None


def test_a_fixed_batch_is_padded_and_other_sizes_are_refused(tmp_path):
    fixed = subject(linear_onnx(tmp_path / "fixed.onnx", batch=4))
    x = np.random.default_rng(0).standard_normal((10, 16)).astype(np.float32)
    (found,) = measure([fixed], max_time=0.1, threads=1, dataset=Arrays(x, np.zeros(10, np.int64)))
    assert found.batch_size == 4
    assert found.quality["accuracy"].n == 10
    with pytest.raises(ModelkitError, match="batch size of 4, not 8"):
        measure([fixed], batch_sizes=[8])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["accuracy"]}, "--data"),
        ({"dataset": Arrays(np.zeros((4, 16), np.float32)), "metrics": ["accuracy"]}, "labels"),
        ({"dataset": Arrays(np.zeros((4, 16), np.float32)), "metrics": ["agreement"]}, "only one model"),
        ({"batch_sizes": [0]}, "batch size"),
        ({"runtimes": "tensorflow"}, "onnxruntime"),
        ({"device": "cuda"}, "onnxruntime-gpu"),
        ({"device": "gpu"}, "cpu or cuda"),
    ],
)
def test_wrong_usage_says_what_to_do(linear, arguments, message):
    with pytest.raises(ModelkitError, match=message):
        measure([linear], max_time=0.1, **arguments)


def test_nan_is_a_warning(tmp_path):
    broken = subject(linear_onnx(tmp_path / "m.onnx"))
    data = Arrays(np.full((4, 16), np.nan, np.float32), np.zeros(4, np.int64))
    with pytest.warns(AccuracyWarning, match="NaN"):
        measure([broken], max_time=0.05, threads=1, dataset=data)


def test_no_models():
    with pytest.raises(ModelkitError, match="no model"):
        measure([])


def test_a_broken_file_is_named(tmp_path):
    good = linear_onnx(tmp_path / "broken.onnx")
    broken = subject(good)
    good.write_bytes(b"nothing")
    with pytest.raises(ModelkitError, match=r"broken\.onnx"):
        measure([broken], max_time=0.1)


def test_too_many_threads_are_a_warning(linear):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        measure([linear], max_time=0.05, threads=(os.cpu_count() or 1) + 1)
    assert any(issubclass(w.category, NoiseWarning) and "--threads" in str(w.message) for w in seen)


def test_a_worker_is_stopped_outside_its_turn(linear, tmp_path):
    with WorkerProcess("linear", 1) as worker:
        process = psutil.Process(worker.pid)
        worker.ask("load", runtime="onnxruntime", path=str(linear.path), device="cpu", threads=1)
        worker.pause()
        wait_for(lambda: process.status() == psutil.STATUS_STOPPED)
        with worker.awake():
            write_arrays(tmp_path / "x.npz", {"x": np.ones((1, 16), np.float32)})
            assert worker.ask("warm_up", feeds=str(tmp_path / "x.npz"), seconds=0.01)["peak"] > 1 << 20
        wait_for(lambda: process.status() == psutil.STATUS_STOPPED)
    assert not psutil.pid_exists(worker.pid)


@pytest.mark.parametrize(("how", "message"), [(signal.SIGKILL, "memory ran out"), (signal.SIGSEGV, "crashed .SIGSEGV")])
def test_a_dying_worker_is_a_user_error(how, message):
    with WorkerProcess("m.onnx", 1) as worker:
        os.kill(worker.pid, how)
        with pytest.raises(ModelkitError, match=f"m.onnx: .*{message}"):
            worker.ask("outputs", feeds="", to="")


def test_a_crash_is_reported_with_the_last_line_of_standard_error(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("import os\nos.write(2, b'first\\nthe disk is on fire\\n')\nos._exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with WorkerProcess("m.onnx", 1) as worker, pytest.raises(ModelkitError, match="exit code 3.*the disk is on fire"):
        worker.ask("load", runtime="onnxruntime", path="m.onnx", device="cpu", threads=1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, how):
    linear_onnx(tmp_path / "m.onnx")
    code = (
        "import pathlib, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the tests run in a shell's background
        "from tests.bench.small_models import subject\n"
        "from modelkit.bench.measure import measure\n"
        f"model = subject(pathlib.Path({str(tmp_path / 'm.onnx')!r}))\n"
        "measure([model, model], max_time=60, threads=1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
    try:
        workers = wait_for(lambda: len(found := psutil.Process(parent.pid).children()) == 2 and found)
        wait_for(lambda: any(worker.status() == psutil.STATUS_STOPPED for worker in workers))
        parent.send_signal(how)
        parent.wait(20)
        wait_for(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))
    finally:
        parent.kill()
        parent.communicate()


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_memory_of_loading_and_of_running_are_told_apart(tmp_path):
    """Weights of 67 MB are loaded; a batch of 4096 needs 4 MB for each activation of the small model."""
    small = subject(deep_onnx(tmp_path / "small.onnx", 2))
    heavy = subject(deep_onnx(tmp_path / "heavy.onnx", 2, width=2896))
    one, two = measure([small, heavy], max_time=0.05, threads=1)
    (many,) = measure([small], batch_sizes=[4096], max_time=0.05, threads=1)
    assert two.memory.load > one.memory.load + 50e6
    assert many.memory.run > one.memory.run + 4e6
    for m in (one, two, many):
        assert m.peak_memory_bytes == max(m.memory.load, m.memory.run) and m.memory.device is None


def test_a_peak_is_reset():
    code = (
        "from modelkit.bench.memory import peak_resident_bytes, reset_peak\n"
        "held = bytearray(80_000_000); high = peak_resident_bytes(); del held; reset_peak()\n"
        "print(high - peak_resident_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if sys.platform == "linux":
        assert int(done.stdout) > 60_000_000, done.stderr
