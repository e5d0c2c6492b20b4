"""The options that the sparsity passes share."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SparsityOptions:
    sparsity: float = field(
        default=0.5, metadata={"bounds": (0.0, 1.0), "help": "share of each layer's weights that become zero"}
    )
    pattern: str = field(default="unstructured", metadata={"help": "unstructured, or N:M: N of every M inputs are kept"})


@dataclass(frozen=True)
class CalibratedOptions(SparsityOptions):
    """Measured (docs/sparsity.md): statistics of the inputs that already pruned layers give are seldom better than those of the
    original model, and for Wanda much worse."""

    sequential: bool = field(
        default=False, metadata={"help": "statistics of the inputs that already pruned layers give, instead of the original ones"}
    )
