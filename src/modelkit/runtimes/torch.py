"""PyTorch in eager mode: an exported program's module, on the CPU or CUDA."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.model import Feeds

from .runtime import Clock, match, operator_times, repeat

PROFILED_RUNS = 50  # traces of more are slow to open
LAYER = "layer: "  # begins the names of ranges in a trace


class Torch:
    name = "torch"
    family: Literal["torch"] = "torch"

    def available(self) -> str | None:
        return None if find_spec("torch") else "Install it with `pip install torch`."

    def check_device(self, device: str) -> None:
        if device != "cuda":
            return
        import torch

        if not torch.cuda.is_available():
            raise ModelkitError(
                "This PyTorch was built without CUDA." if torch.version.cuda is None else "PyTorch finds no usable CUDA GPU.",
                "Install a CUDA build of torch on a machine with an NVIDIA GPU and check `nvidia-smi`, or use --device cpu.",
            )

    def load(self, path: Path, device: str, threads: int) -> ProgramRunner:
        self.check_device(device)
        program = load_program(path, device, threads)
        return ProgramRunner(program, program.module(), path, device)


def load_program(path: Path, device: str, threads: int) -> Any:
    """A torch.export.ExportedProgram on its device. The caller has made sure that the archive can be trusted."""
    import torch
    import torch.ao.quantization.fx._decomposed  # noqa: F401  registers the quantized_decomposed operators that files may hold

    torch.set_num_threads(threads)
    try:
        with path.open("rb") as file:  # by handle: the loader dislikes paths that don't end in .pt2
            program = torch.export.load(file)
    except Exception as error:
        raise ModelkitError(
            f"PyTorch {torch.__version__} can't load {path.name}: {_first_line(error)}", "Export it again."
        ) from error
    if device == "cuda":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, "cuda:0")  # with its number, as torch.compile compares devices by name
    return program


class ProgramRunner:
    """Calls `function` with an exported program's inputs. On CUDA the time is taken with events on the stream."""

    def __init__(self, program: Any, function: Callable[..., Any], path: Path, device: str) -> None:
        from torch.export.graph_signature import InputKind

        self._function = function
        self._path = path
        self._device = device
        self._structure = program.call_spec.in_spec
        self._slots = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
        self._inputs = [slot.name for slot in self._slots if not hasattr(slot, "value")]  # those with a value are constants
        placeholders = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
        self._types = {name: getattr(placeholders.get(name), "dtype", None) for name in self._inputs}
        self._prepared: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def run(self, feeds: Feeds) -> list[Array]:
        import torch
        from torch.utils import _pytree as pytree

        arguments, keywords = self._arguments(feeds)
        try:
            with torch.inference_mode():
                outputs = self._function(*arguments, **keywords)
        except Exception as error:
            raise ModelkitError(
                f"{self._path.name} failed to run in PyTorch: {_first_line(error)}", "Check the inputs' names, types and shapes."
            ) from error
        return [_to_numpy(leaf) for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]

    def prepare(self, feeds: Feeds) -> None:
        self.run(feeds)  # a wrong feed is reported here, before anything is timed; a compiled function compiles
        self._prepared = self._arguments(feeds)

    def timed(self, runs: int, clock: Clock) -> int:
        import torch

        arguments, keywords = self._prepared
        with torch.inference_mode():
            if self._device != "cuda":
                return repeat(lambda: self._function(*arguments, **keywords), runs, clock)
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            for _ in range(runs):
                self._function(*arguments, **keywords)
            end.record()
            torch.cuda.synchronize()
            return round(start.elapsed_time(end) * 1e6)

    def device_memory(self) -> int | None:
        import torch

        return int(torch.cuda.max_memory_allocated()) if self._device == "cuda" else None

    def profile(self, trace: Path, seconds: float) -> list[dict[str, Any]]:
        import torch
        from torch.profiler import ProfilerActivity, profile

        call = self._by_layer()
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self._device == "cuda")
        end, runs = time.perf_counter() + seconds, 0
        with torch.inference_mode(), profile(activities=activities, acc_events=True) as profiler:
            while runs < PROFILED_RUNS and (runs < 2 or time.perf_counter() < end):
                call()
                runs += 1
        profiler.export_chrome_trace(str(trace))
        return operator_times(self._events(profiler.key_averages()), runs)

    def _by_layer(self) -> Callable[[], Any]:
        """What runs the prepared feeds node by node, each within a range of its own in the trace."""
        import torch
        from torch.utils import _pytree as pytree

        class ByLayer(torch.fx.Interpreter):
            def run_node(self, node: Any) -> Any:
                with torch.profiler.record_function(f"{LAYER}{_layer_name(node)} {node.target}"):
                    return super().run_node(node)

        interpreter, flat = ByLayer(self._function), pytree.tree_leaves(self._prepared)  # type: ignore[arg-type]
        return lambda: interpreter.run(*flat, enable_io_processing=False)

    def _events(self, averages: Any) -> list[tuple[str, str, float]]:
        found = []
        for it in averages:
            name, _, op = it.key.removeprefix(LAYER).partition(" ")
            if it.key.startswith(LAYER) and "aten" in op:
                taken = it.device_time_total if self._device == "cuda" else it.cpu_time_total
                found.append((name, op, taken / 1000))
        return found

    def _arguments(self, feeds: Feeds) -> tuple[tuple[Any, ...], dict[str, Any]]:
        from torch.utils import _pytree as pytree

        from modelkit.models.torch.forms import to_tensor

        tensors = {
            name: to_tensor(array).to(self._device, self._types[name])
            for name, array in match(feeds, self._inputs, self._path).items()
        }
        flat = [slot.value if hasattr(slot, "value") else tensors[slot.name] for slot in self._slots]
        arguments, keywords = pytree.tree_unflatten(flat, self._structure)
        return tuple(arguments), dict(keywords)


def _layer_name(node: Any) -> str:
    """The module that an operator comes from ("layer1.0.conv1"), else the operator's own name."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return path.removeprefix("L['self'].") or str(node.name)


def _to_numpy(tensor: Any) -> Array:
    import torch

    host = tensor.detach().cpu()
    array: Array = (host.float() if host.dtype == torch.bfloat16 else host).numpy()
    return array


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
