"""What an interrupted training goes on from: written beside OUT every few seconds, and every half minute at least, by a rename,
so that a kill at any time leaves a whole one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from modelkit.core.errors import ModelkitError

_SHORTEST, _LONGEST = 2.0, 30.0  # seconds between two
_COST = 0.05  # share of the time that saving may take, within these


class Checkpoint:
    """`identity`: what must be the same for a later run to go on from it. `path` None: nothing is kept."""

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self.path = path
        self._identity = identity
        self._every = _SHORTEST
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state that was saved; None when there is none. Raises ModelkitError for one that can't be read or is of another
        run."""
        if self.path is None or not self.path.exists():
            return None
        try:
            found = torch.load(self.path, weights_only=True, map_location="cpu")
            identity, state = found["identity"], found["state"]
        except Exception as error:  # a damaged file may raise whatever its reader meets
            raise ModelkitError(
                f"The checkpoint {self.path} can't be read ({type(error).__name__}).", "Delete it, or start anew with --force."
            ) from error
        differing = [key for key, value in self._identity.items() if identity.get(key) != value]
        if differing:
            raise ModelkitError(
                f"The checkpoint {self.path} is of a run with other {', '.join(differing)}.",
                "Give the same options as then, or start anew with --force.",
            )
        assert isinstance(state, dict)
        return state

    def due(self) -> bool:
        return self.path is not None and time.monotonic() - self._last >= self._every

    def save(self, state: dict[str, Any]) -> None:
        if self.path is None:
            return
        started = time.monotonic()
        beside = self.path.with_name(self.path.name + ".part")
        torch.save({"identity": self._identity, "state": state}, beside)
        os.replace(beside, self.path)
        self._last = time.monotonic()
        self._every = min(max((self._last - started) / _COST, _SHORTEST), _LONGEST)

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path.with_name(self.path.name + ".part").unlink(missing_ok=True)
