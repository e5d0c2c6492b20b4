"""Every command over architectures that no test knows: `python benchmarks/architectures.py [--only NAME] [--save]`.

Small networks with random weights, most from transformers' configurations, are exported to .pt2 and .onnx; each command then runs
on both. What counts is that a command ends well or says in a sentence why it can't: a model that a peer's table of architectures
does not hold is the usual one here. Prints what did not end well, and a table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import page
from odd_networks import NETWORKS

COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", "MODEL"),
    "convert": ("convert", "MODEL", "-o", "OTHER"),
    "int8 dynamic": ("quantize", "MODEL", "--bits", "8", "-o", "OUT"),
    "int8 static": ("quantize", "MODEL", "--bits", "8", "--calib", "DATA", "-o", "OUT"),
    "int8 static, other format": ("quantize", "MODEL", "--bits", "8", "--calib", "DATA", "-o", "OTHER"),
    "int4": ("quantize", "MODEL", "--bits", "4", "--group-size", "16", "-o", "OUT"),
    "int4, corrected": ("quantize", "MODEL", "--bits", "4", "--algorithm", "qera", "--calib", "DATA", "-o", "OUT"),
    "prune, magnitude": ("prune", "MODEL", "--macs", "0.7", "-o", "OUT"),
    "prune, OBS": ("prune", "MODEL", "--macs", "0.7", "--calib", "DATA", "-o", "OUT"),
    "prune, OBS, parameters": ("prune", "MODEL", "--params", "0.7", "--calib", "DATA", "-o", "OUT"),
    "prune, SparseGPT": ("prune", "MODEL", "--sparsity", "0.5", "--calib", "DATA", "-o", "OUT"),
    "prune, 2:4": ("prune", "MODEL", "--pattern", "2:4", "-o", "OUT"),
    "low rank": ("lowrank", "MODEL", "--params", "0.8", "--always", "-o", "OUT"),
    "low rank, calibrated": ("lowrank", "MODEL", "--params", "0.8", "--always", "--calib", "DATA", "-o", "OUT"),
}
FORMATS = ("pt2", "onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="of these networks; repeatable")
    parser.add_argument("--export", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.export:
        return export(arguments.export[0], Path(arguments.export[1]))
    ended: dict[tuple[str, str], Counter[str]] = {(what, kind): Counter() for what in COMMANDS for kind in FORMATS}
    notes = []
    for name in arguments.only or NETWORKS:
        for what, kind, end, message in commands_on(name):
            if what in COMMANDS:
                ended[what, kind][end] += 1
            if end != "well":
                notes.append(f"- {name} .{kind}, {what}: {message}")
                print(notes[-1], flush=True)
    text = table(ended) + "\n\n" + "\n".join(notes)
    print(text)
    if arguments.save:
        page.save("architectures", text, "Architectures that no test knows")


def commands_on(name: str) -> Any:
    """(command, format, how it ended, what it said) of each."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # A process of its own: some exporters leave their state behind.
        subprocess.run([sys.executable, __file__, "--export", name, str(folder)], check=False, capture_output=True)
        for kind in FORMATS:
            model = folder / f"m.{kind}"
            if not model.exists():
                yield "export", kind, "not exported", "torch could not export it"
                continue
            places = {"MODEL": model, "DATA": folder / f"{kind}.npz", "OUT": folder / f"out.{kind}"}
            places["OTHER"] = folder / f"out.{FORMATS[kind == 'pt2']}"
            for what, words in COMMANDS.items():
                options = ["-q"] if what == "inspect" else ["-q", "--force"]
                code, said = forked(*(places.get(word, word) for word in words), *options)
                errors = [line for line in said if line.startswith("error: ")]
                bug = code not in (0, 2) or any("in a way it should not" in line for line in errors)
                end = "bug" if bug else "refused" if code else "well"
                yield what, kind, end, (errors or said or [""])[-1].removeprefix("error: ")


def forked(*words: object) -> tuple[int, list[str]]:
    """The exit status of a command and its lines on standard error. It runs in a fork of this process, which has the libraries
    loaded and no threads started: that saves most of the time of these small models."""
    import onnxruntime  # noqa: F401
    import torch  # noqa: F401

    from modelkit.__main__ import main

    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(said.fileno(), 2)
            sys.argv = ["modelkit", *map(str, words)]
            status: Any = 1
            try:
                status = main()
            except SystemExit as end:
                status = end.code
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status or 0)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace").splitlines()


def export(name: str, folder: Path) -> None:
    import torch

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    module, inputs = NETWORKS[name]()
    module.eval()
    for parameter in module.parameters():
        if parameter.ndim > 1 and float(parameter.std()) < 0.05:
            torch.nn.init.normal_(parameter, std=0.15)
    samples = []
    for value in inputs:
        shape = (32, *value.shape[1:])
        samples.append(torch.randn(shape) if value.is_floating_point() else torch.randint(5, int(value.max()), shape))
    np.savez(folder / "samples.npz", *[value.numpy() for value in samples])
    free = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    with torch.no_grad(), contextlib.suppress(Exception):
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=free), folder / "m.pt2")
    with torch.no_grad(), contextlib.suppress(Exception):
        program = torch.onnx.export(module, inputs, dynamo=True, dynamic_shapes=free, verbose=False)
        assert program is not None
        program.save(folder / "m.onnx")
    for kind in FORMATS:
        if (folder / f"m.{kind}").exists():
            calibration(folder / f"m.{kind}", folder / "samples.npz", folder / f"{kind}.npz")


def calibration(model: Path, samples: Path, out: Path) -> None:
    """The samples under the names of the model's inputs."""
    from modelkit.models.opening import open_model

    arrays = np.load(samples)
    names = [spec.name for spec in open_model(model).graph.inputs]
    np.savez(out, **{name: arrays[key] for name, key in zip(names, arrays.files, strict=True)})


def table(ended: dict[tuple[str, str], Counter[str]]) -> str:
    lines = ["| command | .pt2: well, refused, bug | .onnx: well, refused, bug |", "|---|---|---|"]
    for what in COMMANDS:
        cells = [", ".join(str(ended[what, kind][end]) for end in ("well", "refused", "bug")) for kind in FORMATS]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
