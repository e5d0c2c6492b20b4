"""The sample of an activation's rows: even, bounded, and with exact bounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelkit.calibrate import SAMPLED_ROWS, Rows


@given(st.lists(st.integers(1, 700), min_size=1, max_size=30))
def test_rows_are_evenly_spread_over_all_that_were_seen(sizes: list[int]) -> None:
    total = sum(sizes)
    numbered = np.stack([np.arange(total), -np.arange(total)], 1).astype(np.float32)
    rows = Rows()
    for part in np.split(numbered, np.cumsum(sizes)[:-1]):
        rows.add(part.reshape(1, len(part), 2))
    kept = rows.sample()[:, 0]
    assert min(total, SAMPLED_ROWS // 2) <= len(kept) <= 2 * SAMPLED_ROWS
    assert len(set(np.diff(kept))) <= 1 and kept[0] == 0
    assert rows.high.tolist() == [total - 1, 0] and rows.low.tolist() == [0, 1 - total]
