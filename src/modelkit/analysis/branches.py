"""Sides of residual sums that can be removed whole."""

from __future__ import annotations

from modelkit.core.channels import Branch
from modelkit.core.graph import Graph


def branches(graph: Graph) -> tuple[Branch, ...]:
    """For every sum of two activations of one shape, each side whose layers lead nowhere else, provided that the other side does
    not depend on it."""
    return ()
