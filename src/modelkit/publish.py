"""Writing a result: checked before work starts, written beside its place, read back, run, and only then renamed to OUT."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from . import __version__
from .analysis.synthetic import fixed_batch, synthetic_inputs
from .core.errors import ModelkitError
from .core.forms import Array
from .core.model import Feeds, Model
from .result import Stage

_FAMILIES = {".onnx": "onnx", ".pt2": "torch"}
_LATER = {".gguf": "GGUF", ".safetensors": "safetensors"}
_TOLERANCE = 1e-4


def output_path(source: Path, family: str, done: str, out: Path | None) -> Path:
    """OUT, or `<stem>-<done>` beside the input in the input's family. Raises ModelkitError for a format that can't be written."""
    if out is None:
        suffix = ".onnx" if family == "onnx" else ".pt2"
        return source.with_name(f"{source.stem}-{done}{suffix}")
    if out.suffix.lower() not in _FAMILIES:
        kind = _LATER.get(out.suffix.lower())
        what = f"{kind} files can't be written by this version." if kind else f"{out} has no extension that names a model format."
        raise ModelkitError(what, "End OUT in .onnx or .pt2.")
    return out


def check_output(out: Path, inputs: Sequence[Path], needed: int, force: bool) -> None:
    """Everything about OUT that can fail before work starts. `needed`: bytes that the result may take."""
    if any(_same(out, file) for file in inputs):
        raise ModelkitError(f"OUT {out} is the input.", "Give another name with -o.")
    if out.is_dir():
        raise ModelkitError(f"OUT {out} is a folder.", "Give a file name that ends in .onnx or .pt2.")
    if out.exists() and not force:
        raise ModelkitError(f"{out} exists already.", "Overwrite it with --force, or give another name with -o.")
    folder = out.parent
    if not folder.is_dir():
        raise ModelkitError(f"The folder {folder} does not exist.", "Create it, or give another place with -o.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ModelkitError(f"The folder {folder} can't be written to.", "Change its permissions, or give another place with -o.")
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelkitError(
            f"{folder} has {free >> 20} MiB free, and the result may take {needed >> 20}.",
            "Free some space, or choose another place with -o.",
        )


class Wanted(Protocol):
    """What was asked for: the pass, and its options as the file's history keeps them."""

    @property
    def name(self) -> str: ...

    def options(self) -> dict[str, Any]: ...


def deliver(
    original: Model, result: Model, wanted: Wanted, out: Path, stage: Stage, batch: Feeds, expected: Sequence[Array],
    unchanged: bool = False,
) -> Model:  # fmt: skip
    """`publish` with a history that says what became of `original`, in the format that OUT names."""
    done = {"pass": wanted.name, "options": wanted.options(), "modelkit": __version__}
    result.provenance.history = [*original.provenance.history, *([] if unchanged else [done])]
    if family_of(out) != result.family:
        with stage("converting"):
            result = into_family(result, family_of(out))
        expected = outputs_of(result, batch)
    with stage("writing and checking"):
        return publish(result, out, batch, expected, unchanged)


def family_of(out: Path) -> str:
    """The family of formats of an OUT that `output_path` let pass."""
    return _FAMILIES[out.suffix.lower()]


def publish(model: Model, out: Path, batch: Feeds, expected: Sequence[Array], unchanged: bool = False) -> Model:
    """Write `model`, read the file back, compare its outputs on `batch` with the `expected` ones (of the model in memory), move
    it to OUT. `unchanged`: it is what its file holds, which is copied byte by byte if it has OUT's format.

    What stood at OUT stays unchanged unless all of this succeeds. Returns the model as opened from OUT's file.
    Raises ModelkitError when the file read back computes something else."""
    from .models.opening import open_model

    bindings = {name: (str(array.dtype), array.shape) for name, array in batch.items()}
    before = _data_files(out)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        written = Path(folder) / _free_name(out)
        if unchanged and model.files() == [model.path] and model.path.suffix.lower() == out.suffix.lower():
            shutil.copyfile(model.path, written)
        else:
            model.save(written)
        reread = open_model(written, bindings=bindings)
        difference = relative_difference(expected, outputs_of(reread, batch))
        if not difference <= _TOLERANCE:
            raise ModelkitError(
                f"The written file computes something else than the model in memory (relative difference {difference:.1e}).",
                "OUT was not written; report this with the model.",
            )
        # External data goes first, under a name that no file has; then one rename makes the new model stand at OUT.
        data = [file for file in Path(folder).iterdir() if file != written]
        for file in data:
            os.replace(file, out.parent / file.name)
        os.replace(written, out)
    for file in before:
        file.unlink(missing_ok=True)
    if data:  # external data is found by the model file's place, which is another now
        return open_model(out, bindings=bindings)
    reread.path = out
    return reread


def _free_name(out: Path) -> str:
    """OUT's name, or one near it whose external data would not overwrite that of the model that stands at OUT."""
    names = [out.name, *(f"{out.stem}-{number}{out.suffix}" for number in range(2, 1000))]
    return next(name for name in names if not out.with_name(name + ".data").exists())


def _data_files(out: Path) -> list[Path]:
    """External data that only the model at OUT (which is about to be replaced) needs: files named after it."""
    if out.suffix.lower() != ".onnx" or not out.is_file():
        return []
    from .models.onnx.opening import load

    try:
        return [file for file in load(out).data_files if file.name.startswith(out.stem) and file.suffix == ".data"]
    except ModelkitError:  # what stands there is no model: it owns nothing
        return []


def into_family(model: Model, family: str) -> Model:
    """The same model in the other family's representation, its weight forms and activation grids kept."""
    if model.family == family:
        return model
    from .models import crossing

    return crossing.to_onnx(model) if family == "onnx" else crossing.to_torch(model)


def comparable_batch(model: Model, seed: int, samples: int = 2) -> Feeds:
    """Made-up inputs to compare two models on, with the file's own batch size where it fixes one."""
    return synthetic_inputs(model.graph, fixed_batch(model.graph) or samples, seed)


def outputs_of(model: Model, batch: Feeds) -> list[Array]:
    return kept_outputs(model, next(iter(model.observe([batch], []))))


def kept_outputs(model: Model, values: Mapping[str, Array]) -> list[Array]:
    """The model's outputs out of what it gave, as copies: ONNX Runtime's arrays would keep all memory of a run."""
    return [values[name].copy() for name in model.graph.outputs]


def relative_difference(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """‖a − b‖ / ‖a‖, the worst over the outputs; infinite where shapes or the number of outputs differ."""
    if len(expected) != len(found) or any(a.shape != b.shape for a, b in zip(expected, found, strict=False)):
        return float("inf")
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        if a.dtype.kind not in "fiub" and "float" not in a.dtype.name:  # strings and the like
            worst = max(worst, 0.0 if (a == b).all() else float("inf"))
            continue
        x, y = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(x)
        if (finite != np.isfinite(y)).any():
            return float("inf")
        norm = float(np.linalg.norm(x[finite]))
        off = float(np.linalg.norm(x[finite] - y[finite]))
        worst = max(worst, off / norm if norm else off)
    return worst


def _same(a: Path, b: Path) -> bool:
    try:
        return a.resolve() == b.resolve() or (a.exists() and b.exists() and a.samefile(b))
    except OSError:
        return False
