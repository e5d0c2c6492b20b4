"""How the allocator keeps what is freed."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from modelkit.bench.memory import keep_freed_blocks
def taken():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [b"x" * (100 << 10) for _ in range(40)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
keep_freed_blocks() if sys.argv[1] == "kept" else None
taken()
print(taken())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_blocks_that_were_freed_are_used_again():
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "not")
    )
    assert kept < 0.2 * given_back
