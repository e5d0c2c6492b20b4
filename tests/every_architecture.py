"""Parameters of tests that go over every architecture, from both formats."""

from collections.abc import Collection

import pytest

from tests.architectures import ARCHITECTURES


def in_both_formats(quick: Collection[str]):
    """(architecture, "onnx" or "pt2") of each; slow but for those in `quick`."""
    return [
        pytest.param(name, family, marks=() if name in quick else pytest.mark.slow)
        for name in ARCHITECTURES
        for family in ("onnx", "pt2")
    ]
