"""`modelkit quantize` against ONNX Runtime's quantiser and NNCF: `python benchmarks/quantize_int8.py [--only CASE] [--quick]`.

Every tool gets the same model and the same calibration file and is run as a whole process, start-up included; the results are
tested on the same data, and their latencies are taken in turns (batch 1, ONNX Runtime). The peers are installed into an
environment of their own, `benchmarks/.peers`, on the first run. Missing models are skipped, or trained with --train.
"""

from __future__ import annotations

import argparse
import compileall
import subprocess
import sys
from math import prod
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import page

if TYPE_CHECKING:
    from benchmarks.int8.cases import Case
    from benchmarks.int8.results import Produced, Result
    from benchmarks.int8.tools import Tool

ROOT = Path(__file__).resolve().parents[1]


def run_case(case: Case, arguments: argparse.Namespace) -> Result:
    from benchmarks.int8 import accuracy, cases, latency
    from benchmarks.int8.results import ORIGINAL, Produced, Result
    from benchmarks.int8.tools import tools
    from modelkit.bench.cpu import target_isa

    folder = cases.MODELS / "int8" / case.name
    folder.mkdir(parents=True, exist_ok=True)
    calibration = cases.calibration_file(case, arguments.data, folder)
    files = {ORIGINAL: case.model}
    produced = {ORIGINAL: Produced(file_bytes=_size(case.model))}
    for tool in tools(exact_sums=target_isa() != "avx2", encoder=case.encoder):
        out = folder / f"{tool.name.lower().replace(',', '').replace(' ', '-')}.onnx"
        produced[tool.name] = _produce(tool, case.model, calibration, out, arguments)
        _say(f"  {tool.name}: {produced[tool.name].failure or f'{produced[tool.name].seconds:.1f} s'}")
        if not produced[tool.name].failure:
            files[tool.name] = out
    allowed = _allowed_bytes(case.model, calibration)
    calibration.unlink()
    test = cases.test_samples(case, arguments.data, 200 if arguments.quick else None)
    _say("  accuracy")
    found = accuracy.scores({n: accuracy.outputs(f, test, arguments.threads) for n, f in files.items()}, ORIGINAL, test.labels)
    _say("  latency")
    rounds, seconds = (2, 1.0) if arguments.quick else (arguments.rounds, 2.5)
    taken = latency.latencies(files, next(test.batches(1)), arguments.threads, rounds, seconds)
    return Result(case, produced, found, taken, allowed)


def _produce(tool: Tool, model: Path, calibration: Path, out: Path, arguments: argparse.Namespace) -> Produced:
    from benchmarks.int8.results import Produced

    out.unlink(missing_ok=True)
    try:
        costs = [tool.run(model, calibration, out, arguments.threads) for _ in range(1 if arguments.quick else arguments.repeats)]
        seconds, peak = median(cost.seconds for cost in costs), max(cost.peak_bytes for cost in costs)
        return Produced(seconds, peak, tool.libraries_peak(model, calibration, out, arguments.threads), _size(out))
    except (RuntimeError, OSError) as error:
        return Produced(failure=f"failed: {error}"[:120])


def _allowed_bytes(model: Path, calibration: Path) -> int:
    """What the bar grants our process above its libraries: 3 × the model, one batch of activations, and the histograms."""
    import numpy as np

    from modelkit.algorithms.quantize.histogram import BINS
    from modelkit.analysis.placement import place_grids
    from modelkit.calibrate import calibration_batch
    from modelkit.models.onnx.model import OnnxModel

    with np.load(calibration) as data:
        one = {name: ("", (1, *data[name].shape[1:])) for name in data.files}
    graph = OnnxModel.open(model, one).graph
    sample = sum(4 * prod(edge.shape) for edge in graph.edges.values() if edge.shape)
    histograms = len(place_grids(graph, {layer.name for layer in graph.layers()}).readers)
    return 3 * _size(model) + calibration_batch(OnnxModel.open(model).graph) * sample + histograms * BINS * 8


def _size(model: Path) -> int:
    return sum(path.stat().st_size for path in model.parent.glob(f"{model.name}*") if path.suffix in (".onnx", ".data"))


def machine(versions: dict[str, str], threads: int) -> list[str]:
    from datetime import date

    from modelkit.bench.cpu import cpu_name, instruction_sets, target_isa
    from modelkit.bench.environment import environment

    ours = environment()["packages"]
    names = ("modelkit", "onnxruntime", "onnx", "numpy")
    return [
        f"{cpu_name()}, {target_isa()} ({' '.join(instruction_sets())}), {threads} threads, {date.today():%Y-%m-%d}. Measured in "
        f"{', '.join(f'{name} {ours[name]}' for name in names)}; quantised by the peers in their environment's "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}."
    ]


def save(text: str, isa: str) -> None:
    """Put the section of this instruction set into the document, in place of an earlier one."""
    command = "`python benchmarks/quantize_int8.py --save`"
    page.save(f"int8 on {isa}", f"## int8 quantisation on {isa}\n\n{command}\n\n{text.rstrip()}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", metavar="CASE", help="repeatable; of cifar-cnn, resnet20, mobilenetv2, resnet18, minilm"
    )
    parser.add_argument("--quick", action="store_true", help="few samples and rounds: to see that it runs, not to believe")
    parser.add_argument("--save", action="store_true", help=f"write the tables to {page.PAGE.relative_to(ROOT)}")
    parser.add_argument("--train", action="store_true", help="train the models that are missing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="of every quantisation")
    parser.add_argument("--rounds", type=int, default=10, help="of latency measurements in fresh processes")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    arguments = parser.parse_args()

    from benchmarks.int8 import cases
    from benchmarks.int8.results import Report, markdown, verdicts
    from benchmarks.int8.tools import install_peers
    from modelkit.bench.cpu import target_isa

    if unknown := set(arguments.only or ()) - {case.name for case in cases.CASES}:
        parser.error(f"no case is called {', '.join(sorted(unknown))}")
    report = Report(machine(install_peers(), arguments.threads))
    compileall.compile_dir(ROOT / "src" / "modelkit", quiet=1)  # as pip does when it installs, and did for the peers
    for case in cases.CASES:
        if arguments.only and case.name not in arguments.only:
            continue
        if arguments.train and not case.model.exists():
            subprocess.run([sys.executable, *case.trained_by], cwd=ROOT, check=True)
        if reason := cases.missing(case, arguments.data):
            report.skipped[case.title] = reason
            _say(f"{case.name}: skipped, {reason}")
            continue
        _say(case.name)
        report.results.append(run_case(case, arguments))
    text = markdown(report)
    print(text)
    if arguments.save:
        save(text, target_isa())
    return 0 if report.results and all(verdict.met for verdict in verdicts(report.results)) else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
