"""The runtimes by name: those of the entry point group `modelkit.runtimes`, ours among them.

An entry point names a class that follows `modelkit.runtimes.runtime.Runtime`. It is imported only when it is asked for, so
that a broken plugin breaks nothing else.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from modelkit.core.errors import ModelkitError

from .runtime import Runtime

GROUP = "modelkit.runtimes"


def runtime_names() -> list[str]:
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_runtime(name: str) -> Runtime:
    """Raises ModelkitError for a name that nobody registered, or a plugin that can't be imported."""
    target = next((point.value for point in entry_points(group=GROUP) if point.name == name), None)
    if target is None:
        raise ModelkitError(f"There is no runtime {name!r}.", f"Use one of: auto, {', '.join(runtime_names())}.")
    module, _, attribute = target.partition(":")
    try:
        runtime: Runtime = getattr(import_module(module), attribute)()
    except Exception as error:  # a plugin can fail in any way, and only matters once it is chosen
        raise ModelkitError(
            f"The runtime {name!r} ({target}) can't be loaded: {error}.", "Repair or uninstall the package that provides it."
        ) from error
    return runtime


def require_runtime(name: str, device: str = "cpu") -> Runtime:
    """`find_runtime`, and a ModelkitError when it or the device can't be used on this machine."""
    runtime = find_runtime(name)
    if reason := runtime.available():
        raise ModelkitError(f"The runtime {name!r} can't be used here.", reason)
    runtime.check_device(device)
    return runtime
