"""prune.channel.obs on every architecture, from both formats: the budget is met, and the result runs."""

import numpy as np
import pytest

from modelkit.analysis.channels import channel_groups
from modelkit.analysis.macs import total_macs
from modelkit.analysis.norms import fold_norms
from modelkit.core import passes
from modelkit.core.pruning import Budget, PruningTask
from modelkit.models.opening import open_model
from modelkit.publish import outputs_of
from tests.every_architecture import in_both_formats

QUICK = ("mlp", "mobilenet", "bert")


@pytest.mark.parametrize(("architecture", "family"), in_both_formats(QUICK))
def test_prunes_to_seven_tenths_of_the_macs_and_runs(zoo, architecture, family):
    model = open_model(getattr(zoo, family)(architecture))
    feeds, _ = zoo.arrays(architecture)
    fold_norms(model)
    channels = channel_groups(model)
    limit = 0.7 * total_macs(model.graph)
    task = PruningTask(
        model.copy(), channels, lambda graph: total_macs(graph), limit, Budget("macs", 0.7), 1, lambda: iter([feeds, feeds])
    )
    pruned = passes.build("prune.channel.obs", {"rows": 2048}).prune(task)
    assert total_macs(pruned.graph) <= limit
    before, after = outputs_of(model, feeds), outputs_of(pruned, feeds)
    assert [a.shape for a in before] == [b.shape for b in after]
    assert all(np.isfinite(b).all() for b in after if b.dtype.kind == "f")
