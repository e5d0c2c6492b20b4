"""Reports as the commands would make them."""

from __future__ import annotations

import random

from modelkit.report.records import (
    AvailablePass,
    Candidate,
    ClassMetric,
    Comparison,
    Environment,
    Flip,
    Gate,
    Latency,
    Layer,
    LayerRecord,
    Measurement,
    Memory,
    Metric,
    Model,
    Option,
    PassRecord,
    Profile,
    ProfiledLayer,
    Quality,
    Report,
    Throughput,
)

HOSTILE = "</script><img src=x onerror=alert(1)>|`[red]\x1b[31m\n\"'&\u202e"

ENVIRONMENT = Environment(
    python="3.11.7",
    platform="Linux-6.1",
    cpu="AMD EPYC 7B12",
    isa=["avx2", "fma"],
    cores=2,
    memory_bytes=8_000_000_000,
    gpu=None,
    packages={"numpy": "2.4.6", "onnxruntime": "1.32.0"},
)


def report(command: str, **fields: object) -> Report:
    common = dict(modelkit="0.1.0", seconds=1.9, warnings=[], environment=ENVIRONMENT, inputs=[], output=None, passes=[])
    common |= dict(measurements=[], comparison=None, gates=[])
    return Report.model_validate({"command": command, **common, **fields})


def model(path: str = "models/resnet.onnx", size: int = 3_412_000, layers: int = 4, form: str = "dense") -> Model:
    found = [
        Layer(
            name=f"layer{i}.conv",
            kind="conv",
            shape=[64, 32, 3, 3],
            parameters=18_496,
            macs=1_179_648,
            bytes=73_984,
            sparsity=0.0,
            form=form,
        )
        for i in range(layers)
    ]
    history = [] if form == "dense" else [{"pass": "quantize.minmax", "options": {"bits": 8}, "versions": {"modelkit": "0.1.0"}}]
    return Model(
        path=path,
        format="onnx",
        sha256="ab" * 32,
        bytes=size,
        parameters=853_018,
        macs=126_000_000,
        layers=found,
        history=history,
    )


def layer_record(i: int, name: str | None = None, skipped: str | None = None) -> LayerRecord:
    before = 4 * 9 * 16 * 2 ** (i % 7)
    return LayerRecord(
        name=name or f"/features/stage{i // 6}/block{i % 6}/conv/Conv",
        kind="conv",
        shape=[2 ** (i % 7), 16, 3, 3],
        form="dense" if skipped else "int8 per-channel + u8 activations",
        bytes_before=before,
        bytes_after=before if skipped else before // 4 + 40,
        error=None if skipped else 0.002 * (1 + (i * 7) % 23),
        skipped=skipped,
    )


def pass_record(layers: int = 21) -> PassRecord:
    left = {0: "first convolution: 1 input channel gains nothing", 5: "--ignore", 6: "--ignore"}
    records = [layer_record(i, skipped=left.get(i)) for i in range(layers)]
    options = {"bits": 8, "activations": "static", "algorithm": "percentile", "percentile": 99.99}
    return PassRecord(name="quantize.percentile", options=options, seconds=1.2, layers=records)


def measurement(
    path: str, milliseconds: float, accuracy: float, batch_size: int = 1, seed: int = 0, **quality: Quality
) -> Measurement:
    rng = random.Random(seed)
    samples = sorted(round(milliseconds * (0.97 + 0.03 * rng.expovariate(1)), 4) for _ in range(300))
    p50 = samples[150]
    return Measurement(
        model=path,
        runtime="onnxruntime",
        device="cpu",
        threads=2,
        batch_size=batch_size,
        latency_ms=Latency(
            p50=p50,
            p90=samples[270],
            p99=samples[297],
            mean=round(sum(samples) / 300, 4),
            min=samples[0],
            ci95=(round(p50 * 0.99, 4), round(p50 * 1.012, 4)),
            n=300,
            samples=samples[::10] if batch_size == 1 else [],
            quantiles=[samples[min(3 * k, 299)] for k in range(101)],
        ),
        throughput_per_s=Throughput(value=round(1000 * batch_size / p50, 2), ci95=(round(900 / p50), round(1100 / p50))),
        peak_memory_bytes=94_000_000,
        energy_j=None,
        quality={"accuracy": Quality(value=accuracy, ci95=(accuracy - 0.008, accuracy + 0.008), n=4966), **quality},
    )


def demo(layers: int = 21) -> Report:
    """Quantised, then both measured."""
    before, after = model(), model("models/resnet-int8.onnx", 901_000, form="int8 per-channel")
    return report(
        "quantize",
        inputs=[before],
        output=after,
        passes=[pass_record(layers)],
        measurements=[measurement(before.path, 4.3, 0.914), measurement(after.path, 2.02, 0.912, seed=1)],
        warnings=["layer0 was left alone: its convolution is depthwise. Name it with --only to quantise it all the same."],
        gates=[Gate(gate="max-drop accuracy=0.005", value=0.002, passed=True)],
    )


def bench() -> Report:
    models = [model(f"{name}/model.onnx", size) for name, size in (("dense", 3_412_000), ("int8", 901_000), ("int4", 610_000))]
    cosine = Quality(value=0.98123, ci95=(0.979, 0.983), n=512)
    return report(
        "bench",
        inputs=models,
        measurements=[
            measurement(m.path, t * (1 if b == 1 else 6), a, b, seed=i, cosine=cosine)
            for b in (1, 8)
            for i, (m, t, a) in enumerate(zip(models, (4.3, 2.0, 4.31), (0.914, 0.912, 0.885), strict=True))
        ],
    )


def compare() -> Report:
    found = bench()
    metrics = [
        Metric(
            name="latency_ms.p50", baseline=4.3, candidate=2.0, ratio=2.15, ci95=(2.1, 2.2), verdict="better", detectable=0.024
        ),
        Metric(
            name="latency_ms.p99",
            baseline=5.3,
            candidate=5.2,
            ratio=1.02,
            ci95=(0.9, 1.14),
            verdict="inconclusive",
            detectable=0.12,
        ),
        Metric(name="bytes", baseline=3_412_000, candidate=901_000, ratio=0.264, ci95=None, verdict="better"),
        Metric(name="accuracy", baseline=0.914, candidate=0.885, ratio=0.968, ci95=(0.96, 0.98), verdict="worse"),
        Metric(name="energy_j", baseline=None, candidate=None, ratio=None, ci95=None, verdict="inconclusive"),
    ]
    losses = {"cat": 0.0, "dog": -0.14, "a class with a name that is long": -0.02, "eel": 0.01}
    classes = [
        ClassMetric(label=name, baseline=0.9, candidate=0.9 + lost, n=500, p_value=0.001 if lost < -0.1 else 1.0)
        for name, lost in losses.items()
    ]
    flips = [Flip(index=7 * i, before="dog", after="cat", label="dog" if i % 3 else "cat") for i in range(12)]
    candidate = Candidate(model="int8/model.onnx", metrics=metrics, classes=classes, flips=flips)
    gates = [
        Gate(gate="max-drop accuracy=0.01", value=0.029, passed=False),
        Gate(gate="min-speedup 1.2", value=2.15, passed=True),
        Gate(gate="max-drop cosine=0.001", value=None, passed=None),
    ]
    return report(
        "compare",
        inputs=found.inputs,
        measurements=found.measurements,
        comparison=Comparison(baseline="dense/model.onnx", candidates=[candidate]),
        gates=gates,
    )


def profiled() -> Report:
    """Two runtimes side by side, with the time by layer."""
    found = [measurement("model.onnx", 4.3, 0.9), measurement("model.onnx", 3.1, 0.9, seed=1)]
    found[1].runtime = "openvino"
    for m in found:
        layers = [ProfiledLayer(name=f"/stage{i}/Conv", op="Conv", ms=0.1 + i % 7 / 10, share=1 / 30) for i in range(30)]
        m.profile = Profile(trace=f"model-{m.runtime}.trace.json", layers=layers)
        m.energy_reason, m.starts = "This machine shows no energy counters (RAPL); virtual machines usually have none.", 3
        m.memory = Memory(load=80_000_000, run=94_000_000, device=None)
    return report("bench", inputs=[model("model.onnx")], measurements=found)


def inspect() -> Report:
    return report("inspect", inputs=[model(layers=9)])


def passes() -> Report:
    option = Option(name="bits", type="int", default=8, bounds=[2, 8], help="bits per weight")
    return report("passes", available=[AvailablePass(name="quantize.rtn", summary="Round to nearest.", options=[option])])


def doctor() -> Report:
    return report("doctor", advice=["Runtimes that work here: onnxruntime.", "No NVIDIA GPU was found."])


def hostile() -> Report:
    """Names that are markup in every format that is written."""
    bad = model(HOSTILE, layers=1)
    records = [layer_record(1, HOSTILE), layer_record(2, "b", HOSTILE), layer_record(3, "c")]
    return report(
        HOSTILE,
        inputs=[bad],
        output=model(HOSTILE + "2", layers=1),
        passes=[PassRecord(name=HOSTILE, options={HOSTILE: HOSTILE}, seconds=0.1, layers=records)],
        measurements=[
            measurement(HOSTILE, 4.3, 0.9, **{HOSTILE: Quality(value=1.0, ci95=None, n=1)}),
            measurement(HOSTILE + "2", 2.0, 0.9, **{HOSTILE: Quality(value=2.0, ci95=None, n=1)}),
        ],
        warnings=[HOSTILE],
        gates=[Gate(gate=HOSTILE, value=1, passed=False)],
        advice=[HOSTILE],
        available=[
            AvailablePass(
                name=HOSTILE, summary=HOSTILE, options=[Option(name=HOSTILE, type="x", default=1, bounds=None, help=HOSTILE)]
            )
        ],
    )


EXAMPLES = {f.__name__: f for f in (demo, bench, compare, profiled, inspect, passes, doctor, hostile)}
