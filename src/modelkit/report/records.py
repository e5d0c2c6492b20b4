"""The report `modelkit/report-1`: what every command writes, in the words of the contract. Every key is always there.

Numbers that JSON has no word for (NaN, infinities) are written as null.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA: Literal["modelkit/report-1"] = "modelkit/report-1"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def _finite_interval(value: Any) -> Any:
    return None if isinstance(value, (list, tuple)) and any(_finite(end) is None for end in value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]
Interval = Annotated[tuple[float, float] | None, BeforeValidator(_finite_interval)]
Bytes = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Keys beyond the contract's are kept: a later version may add some."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, allow_inf_nan=False)


class Environment(Record):
    """What the command ran on. `isa`: instruction sets that decide speed, such as "avx512_vnni". `packages`: versions by name."""

    python: str
    platform: str
    cpu: str
    isa: list[str]
    cores: Count
    memory_bytes: Bytes
    gpu: str | None
    packages: dict[str, str]


class Layer(Record):
    """A layer of a model. `macs`: for one sample, null where a shape is unknown. `sparsity`: the share of zeros in its weight.
    `form`: "dense", "int8 per-channel", "int4 g32"…"""

    name: str
    kind: str
    shape: list[Count]
    parameters: Count
    macs: Count | None
    bytes: Bytes
    sparsity: Number
    form: str


class Model(Record):
    """A model file. `bytes` counts every file it needs; `macs` for one sample; `history` holds the passes that made it."""

    path: str
    format: str
    sha256: str
    bytes: Bytes
    parameters: Count
    macs: Count | None
    layers: list[Layer]
    history: list[dict[str, Any]]


class LayerRecord(Record):
    """What a pass did to a layer. `error` is ‖y − ŷ‖ / ‖y‖ of its output, or of its weight without data. `skipped`: why it was
    left alone, null if it was changed."""

    name: str
    kind: str
    shape: list[Count]
    form: str
    bytes_before: Bytes
    bytes_after: Bytes
    error: Number
    skipped: str | None


class PassRecord(Record):
    """`speedup`: how many times as fast as the original, where the pass measured that."""

    name: str = Field(validation_alias="pass", serialization_alias="pass")
    options: dict[str, Any]
    seconds: float
    layers: list[LayerRecord]
    speedup: Number = None


class Latency(Record):
    """Of one call with one batch, in milliseconds. `ci95` is that of the median. `samples` are filled by --samples;
    `quantiles` are those at 0, 1, … 100 per cent."""

    p50: float
    p90: float
    p99: float
    mean: float
    min: float
    ci95: Interval
    n: Count
    samples: list[float] = Field(default_factory=list)
    quantiles: list[float] = Field(default_factory=list)


class Throughput(Record):
    """Samples (not batches) per second."""

    value: float
    ci95: Interval


class Quality(Record):
    value: Number
    ci95: Interval
    n: Count


class Memory(Record):
    """Peaks of resident bytes in a fresh process: while the model was loaded, and while it first ran; and of a device."""

    load: Bytes
    run: Bytes
    device: Bytes | None


class ProfiledLayer(Record):
    """Time of one operator: milliseconds per run, and its share of all operators'."""

    name: str
    op: str
    ms: float
    share: float


class Profile(Record):
    """`trace` is a file for chrome://tracing or ui.perfetto.dev."""

    trace: str
    layers: list[ProfiledLayer]


class Measurement(Record):
    """One model, measured in one set-up. `model` is the path of one of the report's models. `energy_reason`: why energy is
    null. `starts`: how many processes were measured. `clock_mhz`: the GPU's least and greatest."""

    model: str
    runtime: str
    device: str
    threads: Count
    batch_size: Count
    latency_ms: Latency
    throughput_per_s: Throughput
    peak_memory_bytes: Bytes | None
    energy_j: Number
    quality: dict[str, Quality]
    memory: Memory | None = None
    energy_reason: str | None = None
    starts: Count = 1
    clock_mhz: tuple[int, int] | None = None
    profile: Profile | None = None


Verdict = Literal["better", "worse", "same", "inconclusive"]


class Metric(Record):
    """`ratio` is candidate / baseline, but baseline / candidate for latency: above 1 is faster. `ci95` is that of the ratio.
    `detectable`: the smallest difference that could have been seen, as a share. Of quality:
    `difference` is candidate − baseline, `test` what it was tested with on the same examples."""

    name: str
    baseline: Number
    candidate: Number
    ratio: Number
    ci95: Interval
    verdict: Verdict
    higher_is_better: bool | None = None
    detectable: Number = None
    difference: Number = None
    difference_ci95: Interval = None
    test: str | None = None
    p_value: Number = None


class ClassMetric(Record):
    """Accuracy on the `n` samples of one class. `p_value`: McNemar's, adjusted for the number of classes."""

    label: str | int
    baseline: Number
    candidate: Number
    n: Count
    p_value: Number = None


class Flip(Record):
    """An example that the two models answer differently. `index`: its place in the data."""

    index: Count
    before: str | int
    after: str | int
    label: str | int | None


class Candidate(Record):
    model: str
    metrics: list[Metric]
    classes: list[ClassMetric]
    flips: list[Flip] = Field(default_factory=list)


class Comparison(Record):
    baseline: str
    candidates: list[Candidate]


class Recovery(Record):
    """How a training went: mean distillation losses on the samples held out, before, behind each epoch, and of the weights kept,
    which are those of `best_epoch` (0: the ones it began with)."""

    loss_before: Number
    loss_after: Number
    best_epoch: Count
    epochs: Count
    held_out: list[Number]
    training: list[Number]


class Gate(Record):
    """`passed` null: the measurement could not decide it. `model`: the candidate that it is about."""

    gate: str
    value: Number
    passed: bool | None
    model: str | None = None


class Option(Record):
    """An option of a pass. `bounds`: [least, most] of a number, or the choices."""

    name: str
    type: str
    default: Any
    bounds: list[Any] | None
    help: str


class AvailablePass(Record):
    name: str
    summary: str
    options: list[Option]


class Report(Record):
    """`available` is there for `modelkit passes` only, `advice` for `modelkit doctor`, `recovery` for `modelkit recover`; null
    ones are not written."""

    version: Literal["modelkit/report-1"] = Field(SCHEMA, validation_alias="schema", serialization_alias="schema")
    command: str
    modelkit: str
    seconds: float
    warnings: list[str]
    environment: Environment
    inputs: list[Model]
    output: Model | None
    passes: list[PassRecord]
    measurements: list[Measurement]
    comparison: Comparison | None
    gates: list[Gate]
    available: list[AvailablePass] | None = None
    advice: list[str] | None = None
    recovery: Recovery | None = None

    def document(self) -> dict[str, Any]:
        """The report as plain values under the contract's names."""
        absent = {name for name in ("available", "advice", "recovery") if getattr(self, name) is None}
        return self.model_dump(mode="json", by_alias=True, exclude=absent)
