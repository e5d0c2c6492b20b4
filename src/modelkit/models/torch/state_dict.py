"""State dicts: the module they belong to, and putting them into it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...core.errors import ModelkitError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.")
_SHOWN = 3
_EXPECTED = "Give the factory of this model's architecture as --arch module:factory."


def make_module(path: Path, arch: str | None) -> nn.Module:
    """Call the factory that `arch` names. Raises ModelkitError."""
    if arch is None:
        raise ModelkitError(f"{path} holds weights only, and not what to do with them.", _EXPECTED)
    name, _, factory = arch.partition(":")
    if not name or not factory:
        raise ModelkitError(
            f"--arch {arch} is not of the form module:factory.", "Write for example --arch mymodels.resnet:resnet18."
        )
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(name)
        for part in factory.split("."):
            found = getattr(found, part)
        module = found()
    except ModuleNotFoundError as error:
        raise ModelkitError(
            f"--arch {arch}: there is no module {error.name}.", "Run where it can be imported, or install it."
        ) from error
    except AttributeError as error:
        raise ModelkitError(f"--arch {arch}: {error}.", f"Name something that {name} defines.") from error
    except Exception as error:  # The factory is the user's code.
        raise ModelkitError(
            f"--arch {arch} failed: {type(error).__name__}: {error}.", "It must work without arguments."
        ) from error
    finally:
        sys.path.remove(here)
    if not isinstance(module, nn.Module):
        raise ModelkitError(
            f"--arch {arch} gives a {type(module).__name__}, not a torch.nn.Module.", "Name a function that returns the module."
        )
    return module


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file. Raises ModelkitError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelkitError(f"{path} can't be read: {str(error).rstrip('.')}.", "Download or export it again.") from error


def load_into(module: nn.Module, found: Any, path: Path) -> None:
    """Load a checkpoint's weights, out of the usual wrappers. Raises ModelkitError that names some keys where they do not fit."""
    state = unwrapped(found, set(module.state_dict()))
    if not state:
        raise ModelkitError(f"{path} holds no state dict (found: {type(found).__name__}).", "Save model.state_dict().")
    wanted = module.state_dict()
    lacking = [name for name in wanted if name not in state]
    excess = [name for name in state if name not in wanted]
    shapes = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    # A tied weight is often saved under one of its names.
    lacking = [
        name
        for name in lacking
        if not any(wanted[name].data_ptr() == wanted[other].data_ptr() for other in wanted if other in state)
    ]
    parts = []
    if lacking:
        parts.append(f"it lacks {_some(lacking)}")
    if excess:
        parts.append(f"the architecture has no {_some(excess)}")
    if shapes:
        described = [f"{name} {tuple(state[name].shape)} for {tuple(wanted[name].shape)}" for name in shapes]
        parts.append(f"shapes differ: {_some(described)}")
    if parts:
        raise ModelkitError(f"{path} does not fit the architecture: {'; '.join(parts)}.", _EXPECTED)
    module.load_state_dict(state, strict=False)


def unwrapped(found: Any, wanted: set[str]) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, prefixes removed where that makes more of its keys fit `wanted`."""
    if isinstance(found, nn.Module):
        found = found.state_dict()
    while isinstance(found, Mapping) and not any(isinstance(value, torch.Tensor) for value in found.values()):
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            return {}
        found = inner
    if not isinstance(found, Mapping):
        return {}
    state = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    while not wanted & set(state):
        prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
