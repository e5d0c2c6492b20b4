"""Networks over vectors and categories: MLP and DLRM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .architecture import Inputs

FEATURES = 13
TABLES = (100, 50, 200, 30)
BAG = 3


def vectors(batch: int) -> Inputs:
    return {"x": torch.randn(batch, 64)}


def features_and_categories(batch: int) -> Inputs:
    """Dense features (batch, 13) and a bag of category indices per table (batch, 4, 3)."""
    bags = [torch.randint(0, rows, (batch, BAG)) for rows in TABLES]
    return {"dense": torch.randn(batch, FEATURES), "categories": torch.stack(bags, dim=1)}


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class DLRM(nn.Module):
    """Embedding bags, a bottom MLP, pairwise dot products, a top MLP (Naumov et al., 2019)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, width), nn.ReLU())
        self.embeddings = nn.ModuleList(nn.EmbeddingBag(rows, width, mode="sum") for rows in TABLES)
        vectors = len(TABLES) + 1
        self.register_buffer("pairs", torch.tril_indices(vectors, vectors, offset=-1))
        self.top = nn.Sequential(nn.Linear(width + vectors * (vectors - 1) // 2, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        x = self.bottom(dense)
        bags = [table(categories[:, i]) for i, table in enumerate(self.embeddings)]
        vectors = torch.stack([x, *bags], dim=1)
        products = vectors @ vectors.transpose(1, 2)
        interactions = products[:, self.pairs[0], self.pairs[1]]
        click: Tensor = self.top(torch.cat([x, interactions], dim=1))
        return click
