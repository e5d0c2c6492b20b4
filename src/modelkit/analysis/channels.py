"""Which channels of a model belong together, found by following labels through its graph."""

from __future__ import annotations

from modelkit.core.channels import Channels
from modelkit.core.model import Model


def channel_groups(model: Model) -> Channels:
    """The prunable structure of a model. Shapes of the graph's edges must be known where channels are to be followed."""
    raise NotImplementedError
