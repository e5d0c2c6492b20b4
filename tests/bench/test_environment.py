import json
import time

import pytest

from modelkit.bench import cpu, noise
from modelkit.bench.doctor import advice
from modelkit.bench.energy import joules_between, read_counters
from modelkit.bench.environment import environment


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
        ({"isa": ["avx2"]}, "7 bits"),
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


def test_noise_says_what_to_change(tmp_path):
    quiet = noise.Surroundings(0.0, frozenset({"performance"}), 3, (0.0, 100.0))
    assert noise.noise_before(quiet, threads=2, cores=2) == []
    loud = noise.Surroundings(1.4, frozenset({"powersave"}), 5, (10.0, 200.0))
    said = noise.noise_before(loud, threads=4, cores=2)
    assert ["--threads 2" in said[0], "1.4 cores" in said[1], "governor" in said[2]] == [True] * 3
    during = noise.noise_during(quiet, loud)
    assert "throttled" in during[0] and "10%" in during[1]
    assert noise.noise_during(quiet, quiet) == []


def test_looking_around_reads_governors_and_throttling(tmp_path):
    for name in ("cpu0", "cpu1"):
        (tmp_path / name / "cpufreq").mkdir(parents=True)
        (tmp_path / name / "thermal_throttle").mkdir()
        (tmp_path / name / "cpufreq" / "scaling_governor").write_text("powersave\n")
        (tmp_path / name / "thermal_throttle" / "core_throttle_count").write_text("4\n")
    seen = noise.look(tmp_path)
    assert seen.governors == {"powersave"} and seen.throttled == 8
    assert 0 <= seen.stolen[0] <= seen.stolen[1]
