"""The measured speed-up, with runs and a clock that are made up."""

from types import SimpleNamespace

import pytest

from modelkit.bench import speedup
from modelkit.bench.speedup import Speedup

ROUNDS = speedup._ROUNDS


class Machine:
    """Runs models in the milliseconds that `times` names, by what was saved; `disturbed` loads (counted from 0) run ten times
    slower, and so does every fifth run of any."""

    def __init__(self, times, disturbed=()):
        self.times, self.disturbed = times, disturbed
        self.now_ns = 0
        self.loads = []

    def load(self, path, device, threads):
        assert device == "cpu"
        self.loads.append((path.name, threads))
        return Run(self, self.times[path.read_text()] * (10 if len(self.loads) - 1 in self.disturbed else 1))

    def model(self, name, family="onnx"):
        return SimpleNamespace(family=family, save=lambda path: path.write_text(name))


class Run:
    def __init__(self, machine, milliseconds):
        self.machine, self.milliseconds, self.count = machine, milliseconds, 0

    def prepare(self, feeds):
        assert feeds == {"x": 1}

    def timed(self, runs, clock):
        start = clock()
        for _ in range(runs):
            self.count += 1
            self.machine.now_ns += round(1e6 * self.milliseconds * (10 if self.count % 5 == 0 else 1))
        return clock() - start


@pytest.fixture
def machine(monkeypatch):
    def make(times, **more):
        made = Machine(times, **more)
        clock = SimpleNamespace(perf_counter_ns=lambda: made.now_ns, perf_counter=lambda: made.now_ns / 1e9)
        monkeypatch.setattr(speedup, "time", clock)
        runtime = SimpleNamespace(load=made.load)
        monkeypatch.setattr(speedup, "OnnxRuntime", lambda: runtime)
        monkeypatch.setattr("modelkit.runtimes.torch.Torch", lambda: runtime)
        return made

    return make


@pytest.mark.parametrize("family", ["onnx", "torch"])
def test_the_ratio_of_the_latencies(machine, family):
    made = machine({"old": 10.0, "new": 4.0, "slow": 20.0})
    measured = Speedup(made.model("old", family), {"x": 1}, threads=2)
    assert measured.latencies_ms(made.model("new", family)) == pytest.approx((10.0, 4.0))
    assert measured(made.model("new", family)) == pytest.approx(2.5)
    assert measured(made.model("slow", family)) == pytest.approx(0.5)
    suffix = ".onnx" if family == "onnx" else ".pt2"
    assert set(made.loads) == {(f"original{suffix}", 2), (f"candidate{suffix}", 2)}


def test_the_models_take_turns_in_who_comes_first(machine):
    made = machine({"old": 10.0, "new": 4.0})
    measured = Speedup(made.model("old"), {"x": 1}, threads=1)
    measured(made.model("new"))
    names = [name.split(".")[0] for name, _ in made.loads]
    rounds = list(zip(names[::2], names[1::2], strict=True))
    assert rounds == ([("original", "candidate"), ("candidate", "original")] * ROUNDS)[:ROUNDS]


@pytest.mark.parametrize("disturbed", [(0, 5, 8), (1, 2, 13), (0, 1, 2, 3)])
def test_rounds_that_something_disturbed_do_not_count(machine, disturbed):
    made = machine({"old": 10.0, "new": 4.0}, disturbed=disturbed)
    assert Speedup(made.model("old"), {"x": 1}, threads=1)(made.model("new")) == pytest.approx(2.5)


@pytest.mark.parametrize(("family", "loads"), [("onnx", (2 * ROUNDS, 2 * ROUNDS)), ("torch", (1, 2))])
def test_pytorch_models_are_loaded_once(machine, family, loads):
    made = machine({"old": 10.0, "new": 4.0, "newer": 2.0})
    measured = Speedup(made.model("old", family), {"x": 1}, threads=1)
    assert [measured(made.model(name, family)) for name in ("new", "newer")] == pytest.approx([2.5, 5.0])
    of_candidate = [name for name, _ in made.loads if name.startswith("candidate")]
    assert (len(made.loads) - len(of_candidate), len(of_candidate)) == loads


def test_what_is_far_from_the_aim_is_measured_less(machine):
    made = machine({"old": 10.0, "near": 6.5, "far": 2.0, "far below": 9.0})
    measure = Speedup(made.model("old"), {"x": 1}, 2)
    loads = []
    for name in ("near", "far", "far below"):
        before = len(made.loads)
        assert measure(made.model(name), aim=1.5) == pytest.approx(10.0 / made.times[name])
        loads.append(len(made.loads) - before)
    assert loads == [2 * ROUNDS, 2 * speedup._FEW, 2 * speedup._FEW]
