"""What can go wrong, said in two sentences: what is wrong, and what to do about it."""

from __future__ import annotations


class ModelkitError(Exception):
    """A wrong usage, or a file, model or data that can't be used. The command line prints both sentences and exits with 2.

    `what` says what is wrong (naming the file, layer or option), `fix` says what to do.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what} {fix}")
        self.what = what
        self.fix = fix


class UnstatedInputs(ModelkitError):
    """A file that does not say what its inputs are, and nothing else that did."""


class ModelkitWarning(UserWarning):
    """Something the user should know and can change; the message says what to change. Reports collect these."""


class SkippedWarning(ModelkitWarning):
    """Part of the model was left alone."""


class AccuracyWarning(ModelkitWarning):
    """The result's outputs are far from the original's."""


class TargetWarning(ModelkitWarning):
    """A model is laid out for another processor than the one that it runs on."""


class SizeWarning(ModelkitWarning):
    """The result is not smaller than its input."""


class SpeedWarning(ModelkitWarning):
    """The result is not expected to be faster, or was measured not to be."""


class NoiseWarning(ModelkitWarning):
    """The machine or the set-up makes the measurement less certain."""


class ThreadsWarning(NoiseWarning):
    """More threads than cores, or fewer cores than the machine has."""


class FrequencyWarning(NoiseWarning):
    """The clock may vary."""


class LoadWarning(NoiseWarning):
    """Other programs kept cores busy."""


class ThrottledWarning(NoiseWarning):
    """The processor was slowed down: by heat, by a power limit, or by a container's share of CPU time."""


class StolenWarning(NoiseWarning):
    """The hypervisor gave time to other machines."""


class MachineWarning(NoiseWarning):
    """Figures from different machines or versions stand side by side."""


class InputWarning(ModelkitWarning):
    """The file or the data left something open, and this is what was assumed."""
