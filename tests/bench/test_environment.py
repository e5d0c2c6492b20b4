import json
import subprocess
import sys
import time

import pytest

from modelkit.bench import cpu, noise, nvml
from modelkit.bench.doctor import advice
from modelkit.bench.energy import joules_between, read_counters, read_gpu, why_no_energy
from modelkit.bench.environment import environment
from modelkit.core import errors


def test_environment_is_json_and_complete():
    found = environment()
    assert {"python", "platform", "cpu", "isa", "cores", "memory_bytes", "gpu", "packages"} <= set(found)
    assert found["cores"] >= 1 and found["memory_bytes"] > 0
    assert "onnxruntime" in found["packages"]
    assert json.loads(json.dumps(found)) == found


def test_doctor_is_fast_and_always_says_something():
    began = time.perf_counter()
    found = advice(environment())
    assert time.perf_counter() - began < 3
    assert any("onnxruntime" in sentence for sentence in found)
    assert all(isinstance(sentence, str) and sentence for sentence in found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"isa": ["avx2", "avx512f", "avx512_vnni"]}, "VNNI"),
        ({"isa": ["avx2"]}, "wider grids"),
        ({"isa": ["neon", "dotprod"]}, "dot products"),
        ({"isa": ["neon"]}, "hardly any time"),
        ({"isa": []}, "maybe no time"),
        ({"gpu": "NVIDIA H200"}, "onnxruntime-gpu"),
        ({"gpu": None}, "No NVIDIA GPU"),
        ({"cores": 2, "physical_cores": 16}, "Only 2 of 16"),
        ({"memory_bytes": 2 << 30}, "2.0 GiB"),
    ],
)
def test_advice_fits_the_machine(changes, words):
    machine = {"isa": ["avx2"], "gpu": None, "cores": 8, "physical_cores": 8, "memory_bytes": 64 << 30, "packages": {}, **changes}
    assert any(words in sentence for sentence in advice(machine))


def test_no_compiler_is_advice(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert any("C++ compiler" in sentence for sentence in advice(environment()))


@pytest.mark.parametrize(
    ("isa", "target"),
    [
        (("avx2", "avx512f"), "avx2"),
        (("avx2", "avx_vnni"), "vnni"),
        (("avx2", "avx512_vnni"), "vnni"),
        (("neon",), "neon"),
        ((), "other"),
    ],
)
def test_target(isa, target):
    assert cpu.target_isa(isa) == target


@pytest.mark.parametrize(
    ("text", "name", "isa"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx avx2 fma avx512f avx512_vnni\n",
            "AMD EPYC",
            {"avx512_vnni", "avx2"},
        ),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nHardware\t: Graviton\n", "Graviton", {"neon", "dotprod", "i8mm"}),
    ],
)
def test_cpuinfo_is_read(tmp_path, monkeypatch, text, name, isa):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    assert cpu.cpu_name.__wrapped__() == name
    assert isa <= set(cpu.instruction_sets.__wrapped__())


@pytest.mark.parametrize(("content", "cores"), [("max 100000\n", None), ("150000 100000\n", 1.5)])
def test_container_limits(tmp_path, content, cores):
    (tmp_path / "cpu.max").write_text(content)
    assert cpu.cgroup_cpus(tmp_path) == cores


def test_container_limits_of_version_1(tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    monkeypatch.setattr(cpu, "CGROUP", tmp_path)
    assert cpu.cgroup_cpus(tmp_path) is None
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("250000")
    assert cpu.cgroup_cpus(tmp_path) == 2.5


def test_energy_counters(tmp_path):
    assert read_counters(tmp_path) is None
    for name, used in (("intel-rapl:0", 900), ("intel-rapl:1", 50), ("intel-rapl:0:0", 7)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{used}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000\n")
    before = read_counters(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100")  # went over its end
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("80")
    assert joules_between(before, read_counters(tmp_path)) == pytest.approx((200 + 30) / 1e6)
    assert joules_between(None, before) is None


def seen(**changes):
    quiet = {"at": 0.0, "busy": 0.0, "stolen": 0.0, "total": 100.0, "governors": frozenset({"performance"})}
    return noise.Surroundings(**{**quiet, **changes})


def test_noise_before(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert noise.noise_before(seen(), threads=2, cores=2) == []
    (threads,) = noise.noise_before(seen(), threads=4, cores=2)
    assert isinstance(threads, errors.ThreadsWarning) and "--threads 2" in str(threads)
    (clock,) = noise.noise_before(seen(governors=frozenset({"powersave"})), threads=2, cores=2)
    assert isinstance(clock, errors.FrequencyWarning) and "powersave" in str(clock)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1})
    (affinity,) = noise.noise_before(seen(), threads=1, cores=1)
    assert isinstance(affinity, errors.ThreadsWarning) and "1 of 2 CPUs" in str(affinity)


@pytest.mark.parametrize(
    ("after", "ours", "kind", "words"),
    [
        ({"busy": 19.0, "processes": {7: ("stress", 9.9)}}, 9.0, errors.LoadWarning, "1.0 cores busy (stress, pid 7)"),
        ({"busy": 19.0}, 9.0, errors.LoadWarning, "1.0 cores busy: end"),
        ({"throttled": 1}, 0.0, errors.ThrottledWarning, "cooling"),
        ({"limited": 3}, 0.0, errors.ThrottledWarning, "quota"),
        ({"gpu_slowed": True}, 0.0, errors.ThrottledWarning, "nvidia-smi -lgc"),
        ({"stolen": 10.0, "total": 200.0}, 0.0, errors.StolenWarning, "10%"),
    ],
)
def test_noise_during_is_typed_and_says_what_to_change(after, ours, kind, words):
    (found,) = noise.noise_during(seen(), seen(**{"at": 10.0, **after}), ours)
    assert isinstance(found, kind) and isinstance(found, errors.NoiseWarning) and words in str(found)


def test_our_own_work_is_no_noise():
    assert noise.noise_during(seen(), seen(at=10.0, busy=19.0), ours=18.9) == []


def test_a_busy_process_is_named():
    code = "import time\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as busy:
        try:
            time.sleep(0.2)
            before, ours = noise.look(), noise.own_seconds()
            time.sleep(0.6)
            found = noise.noise_during(before, noise.look(), noise.own_seconds() - ours)
        finally:
            busy.kill()
    assert any(isinstance(it, errors.LoadWarning) and f"pid {busy.pid}" in str(it) for it in found)


def test_quiet_cpus_are_the_least_busy(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 3, 4, 5})
    monkeypatch.setattr("psutil.cpu_percent", lambda *_, percpu: [90.0, 10.0, 0.0, 50.0, 0.0, 95.0])
    monkeypatch.setattr(noise, "siblings", lambda cpu: {0: "0", 1: "1", 3: "3", 4: "4-5", 5: "4-5"}[cpu])
    assert noise.quiet_cpus(1) == [1]
    assert noise.quiet_cpus(2) == [1, 3]
    assert noise.quiet_cpus(3) == [0, 1, 3]  # CPU 4 is idle, but shares its core with a busy one
    assert noise.quiet_cpus(4) is None


def test_hyperthreads_of_one_core_count_once(monkeypatch, tmp_path):
    for number, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):  # as Linux writes it
        topology = tmp_path / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr(cpu, "CPUS", tmp_path)
    monkeypatch.setattr(cpu, "cgroup_cpus", lambda: None)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert cpu.usable_cores() == 2


def test_looking_around_reads_governors_and_throttling(tmp_path):
    for name in ("cpu0", "cpu1"):
        (tmp_path / name / "cpufreq").mkdir(parents=True)
        (tmp_path / name / "thermal_throttle").mkdir()
        (tmp_path / name / "cpufreq" / "scaling_governor").write_text("powersave\n")
        (tmp_path / name / "thermal_throttle" / "core_throttle_count").write_text("4\n")
    (tmp_path / "cpu.stat").write_text("nr_periods 9\nnr_throttled 5\n")
    found = noise.look(cpus=tmp_path, cgroup=tmp_path)
    assert found.governors == {"powersave"} and found.throttled == 8 and found.limited == 5
    assert 0 <= found.busy <= found.total and 0 <= found.stolen <= found.total


class Driver:
    """Stands in for NVIDIA's library: questions answer 0 and leave a number."""

    def __init__(self, **numbers):
        self._numbers = numbers

    def __getattr__(self, name):
        def answer(*arguments):
            if name not in self._numbers:
                return 3  # not supported
            arguments[-1]._obj.value = self._numbers[name]
            return 0

        return answer


def test_a_gpu_tells_its_clock_energy_and_troubles(monkeypatch):
    driver = Driver(
        nvmlInit_v2=0,
        nvmlDeviceGetHandleByIndex_v2=1,
        nvmlDeviceGetClockInfo=1980,
        nvmlDeviceGetTotalEnergyConsumption=5000,
        nvmlDeviceGetCurrentClocksThrottleReasons=0x20,
    )
    monkeypatch.setattr(nvml, "_device", lambda: (driver, None))
    assert nvml.clock_mhz() == 1980 and nvml.slowed_down()
    assert read_gpu() == {"gpu": (5_000_000, 0)} and why_no_energy("cuda") is None
    monkeypatch.setattr(nvml, "_device", lambda: (Driver(), None))
    assert nvml.clock_mhz() is None and not nvml.slowed_down() and "NVML" in why_no_energy("cuda")


def test_missing_energy_has_a_reason(tmp_path):
    assert "virtual machines" in why_no_energy("cpu", tmp_path)
