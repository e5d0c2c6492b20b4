"""The cases: two models, how many threads, what else the machine does, and what a right verdict is.

Models are chains of equal convolutions, so that a copy with 5% more layers is a copy slowed by 5%.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPES = {"small": (16, 6), "large": (40, 28)}  # channels, height and width: about 0.3 and 10 ms with one thread
LAYERS = 100  # so that each per cent is a layer


@dataclass(frozen=True)
class Case:
    """`slower`: by how many per cent the candidate is slower; 0 is the same model. `trials` and `seconds` (of time for a verdict)
    are the most that are asked for; `bar` is the share of wrong (same model) or right (slower copy) verdicts that the project
    set; `peers`: whether the other tools are asked too."""

    name: str
    size: str
    threads: int
    slower: int
    seconds: float
    trials: int
    bar: float
    load: bool = False
    peers: bool = True

    @property
    def same(self) -> bool:
        return not self.slower

    def good(self, verdict: str) -> bool:
        """Whether a verdict counts as right; of the same model, all but a false alarm is."""
        return verdict not in ("better", "worse") if self.same else verdict == "worse"


def _cases() -> Iterator[Case]:
    for size, threads in (("small", 1), ("small", 2), ("large", 2)):
        where = f"{size} model, {threads} thread{'s' * (threads > 1)}"
        peers = size == "small"
        yield Case(f"same, {where}", size, threads, 0, 30.0, 200, 0.05, peers=peers)
        yield Case(f"5% slower, {where}", size, threads, 5, 30.0, 80, 0.95, peers=peers)
        yield Case(f"2% slower, {where}", size, threads, 2, 60.0, 40, 0.80, peers=peers)
    for threads in (1, 2):
        name = f"same, a core hammered, small model, {threads} thread{'s' * (threads > 1)}"
        yield Case(name, "small", threads, 0, 30.0, 200, 0.05, load=True, peers=False)
    name = "10% slower, a core hammered, small model, 1 thread"
    yield Case(name, "small", 1, 10, 30.0, 60, 0.90, load=True, peers=False)


CASES = tuple(_cases())


def files(case: Case, folder: Path) -> tuple[Path, Path]:
    """The baseline and the candidate: files of their own even where they are the same."""
    paths = folder / f"{case.size}-0.onnx", folder / f"{case.size}-{case.slower or 'again'}.onnx"
    for path, slower in zip(paths, (0, case.slower), strict=True):
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_chain(path, *SHAPES[case.size], LAYERS + LAYERS * slower // 100)
    return paths


def write_chain(path: Path, channels: int, side: int, layers: int) -> None:
    rng = np.random.default_rng(0)
    shape = ["batch", channels, side, side]
    nodes, weights = [], []
    for i in range(layers):
        weight = (rng.standard_normal((channels, channels, 3, 3)) / np.sqrt(9 * channels)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", ["x" if i == 0 else f"r{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], ["y" if i == layers - 1 else f"r{i + 1}"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@contextmanager
def surroundings(case: Case, trial: int) -> Iterator[None]:
    """With `load`, another process that never rests: pinned to a core in every other trial, else free to move."""
    if not case.load:
        yield
        return
    pinned = f"import os; os.sched_setaffinity(0, {{{trial // 2 % 2}}})\n" if trial % 2 else ""
    with subprocess.Popen([sys.executable, "-c", f"{pinned}while True: pass"]) as hammer:
        try:
            yield
        finally:
            hammer.kill()
