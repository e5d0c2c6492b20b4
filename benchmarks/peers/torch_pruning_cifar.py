"""Torch-Pruning 1.6.1 on the benchmark's ResNet-56, as its documentation does it: arguments
WEIGHTS DATA METHOD EPOCHS N...

METHOD is group-l2 (no data) or taylor (the loss of 512 labelled images); N how many times fewer MACs. Global ranking, in steps
until the MACs are reached; then EPOCHS over the labelled images by SGD, as in its examples (0: nothing is trained). Prints a JSON
line each: the reduction reached and the accuracy, or the error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp

from benchmarks import networks
from sample_models import datasets, training

STEPS = 200


def main() -> None:
    weights, data, method = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(2)
    test, train = datasets.cifar(data, "test"), datasets.cifar(data, "train")
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(train.y))[:512])
    example = test.x[:1]
    for wanted in map(float, sys.argv[5:]):
        model = networks.resnet56()
        model.load_state_dict(torch.load(weights))
        model.eval()
        dense = tp.utils.count_ops_and_params(model, example)[0]
        try:
            importance = (
                tp.importance.GroupMagnitudeImportance(p=2) if method == "group-l2" else tp.importance.GroupTaylorImportance()
            )
            pruner = tp.pruner.BasePruner(
                model, example, importance, global_pruning=True, pruning_ratio=1.0, max_pruning_ratio=0.95, iterative_steps=STEPS,
                ignored_layers=[model.classifier],
            )  # fmt: skip
            macs = dense
            for _ in range(STEPS):
                if method == "taylor":
                    model.zero_grad()
                    for batch in chosen.split(128):
                        F.cross_entropy(model(train.x[batch]), train.y[batch], reduction="sum").backward()
                pruner.step()
                macs = tp.utils.count_ops_and_params(model, example)[0]
                if dense / macs >= wanted:
                    break
            fine_tune(model, train, int(sys.argv[4]))
            found = {"asked": wanted, "fewer": dense / macs, "accuracy": training.accuracy(model, test)}
        except (RuntimeError, ValueError, IndexError) as error:
            found = {"asked": wanted, "error": str(error).split("\n")[0]}
        print(json.dumps(found), flush=True)


def fine_tune(model: torch.nn.Module, train: datasets.Images, epochs: int) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = max(1, epochs * -(-len(train.y) // 64))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(train.y)).split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(train.x[batch]), train.y[batch]).backward()
            optimiser.step()
            schedule.step()
    model.eval()


if __name__ == "__main__":
    main()
