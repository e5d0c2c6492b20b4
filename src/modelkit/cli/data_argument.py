"""DATA on the command line, read for a model's inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import preprocessing_from

if TYPE_CHECKING:
    from modelkit.core.model import Model
    from modelkit.data import Dataset


@dataclass(frozen=True)
class Reading:
    """How data is read: the options shared by every DATA of a command."""

    num_samples: int | None = None
    seed: int = 0
    scale: float | None = None
    mean: str | None = None
    std: str | None = None
    label: str | None = None
    tokenizer: Path | None = None

    def open(self, spec: str, model: Model, *, all_samples: bool = False) -> Dataset:
        """The data as `model` takes it, with the preprocessing given, or else that which the model file states."""
        from modelkit.data import open_data

        return open_data(
            spec,
            model.graph.inputs,
            num_samples=None if all_samples else self.num_samples,
            seed=self.seed,
            preprocessing=preprocessing_from(self.scale, self.mean, self.std) or model.provenance.preprocessing,
            label=self.label,
            tokenizer=self.tokenizer,
        )

    def open_some(self, spec: str, model: Model, enough: int) -> Dataset:
        """As `open`, but no more than `enough` samples unless --num-samples says how many."""
        found = self.open(spec, model)
        if self.num_samples is None and found.n > enough:
            return replace(self, num_samples=enough).open(spec, model)
        return found


def example_rows(calib: str | None) -> Any:
    """Two samples of calibration arrays, for files that do not state their inputs' shapes (TorchScript, state dicts)."""
    if calib is None or Path(calib).suffix.lower() not in (".npz", ".npy") or not Path(calib).is_file():
        return None
    from modelkit.data.peek import first_rows

    return first_rows(Path(calib), 2)
