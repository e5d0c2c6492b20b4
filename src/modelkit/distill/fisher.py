"""The gradients whose squares say how much a loss depends on a weight: of the log-likelihood of answers that the model itself
might give, and of the data's labels.

With answers drawn from the model's own distribution the mean of the squares is the Fisher matrix, the second order of the
divergence from the original (Martens, "New insights and perspectives on the natural gradient method", JMLR 2020, section 5). The
cross-entropy with labels alone hardly has a gradient where a model is sure of its answers and right, as on images that it was
trained on, so it is added: the gradient of drawn answers has no mean, and cross terms cancel. What may be no distribution is
taken as the mean of a normal one too, whose gradient does not vanish.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from modelkit.analysis.synthetic import fixed_batch
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array, Dense
from modelkit.core.model import Model
from modelkit.core.pruning import Site
from modelkit.data import Dataset
from modelkit.models.torch.model import TorchModel

from .losses import Loss, cross_entropy, logits_of, losses_of
from .teacher import matched_inputs

_BATCH = 4  # samples whose gradients are added up before they are squared: drawn labels have no mean, so that cross terms cancel
_ADVICE = "Use --algorithm obs or wanda, which need no gradients."


def gradients(model: Model, data: Dataset, sites: Collection[Site], seed: int) -> Iterator[Mapping[Site, Array]]:
    """Of the summed loss of a few samples at a time, with respect to parameters in the neutral layout, float32. Parameters that
    torch can't set are left out. Raises ModelkitError where the model can't be carried into torch or labels don't fit."""
    program, known = _settled(model, sites)
    module = program.trainable(False)
    latents = {site: program.latent(module, *other) for site, other in known.items()}
    unique = list({id(latent): latent for latent in latents.values()}.values())
    inputs = matched_inputs(program.graph, model.graph)
    loss = _Likelihood(program, data, seed)
    size = fixed_batch(model.graph) or _BATCH
    for start in range(0, data.n, size):
        feeds, labels = data.take(
            np.arange(start, start + size if fixed_batch(model.graph) else min(start + size, data.n)) % data.n
        )
        given = {name: torch.from_numpy(np.ascontiguousarray(feeds[other])) for name, other in inputs.items()}
        try:
            found = torch.autograd.grad(loss(module(given), labels), unique, allow_unused=True)
        except RuntimeError as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise ModelkitError(f"The model has no gradient in torch: {reason}.", _ADVICE) from error
        by_latent = {id(latent): gradient for latent, gradient in zip(unique, found, strict=True) if gradient is not None}
        yield {site: by_latent[id(latent)].numpy() for site, latent in latents.items() if id(latent) in by_latent}


def _settled(model: Model, sites: Collection[Site]) -> tuple[TorchModel, dict[Site, Site]]:
    """The model in torch, those parameters held in the neutral layout, and what they are called there."""
    from modelkit.models.crossing import to_torch_by_layer

    try:
        program, names = to_torch_by_layer(model.copy())
    except ModelkitError as error:
        raise ModelkitError(f"The gradients need the model in torch: {error.what}", _ADVICE) from error
    known: dict[Site, Site] = {}
    forms: dict[tuple[str, ...], Dense] = {}
    for node, role in sites:
        name = names.get(node)
        value = program.parameter(name, role) if name is not None else None
        if name is None or value is None:
            continue
        stored = program.graph.by_name[name].parameters[role].stored
        form = forms.setdefault(stored, Dense(value))  # tied weights stay so
        try:
            program.set_parameter(name, role, form)
        except ModelkitError:
            continue
        known[node, role] = name, role
    if not known:
        raise ModelkitError("None of the weights that can go has a gradient in torch.", _ADVICE)
    return program, known


class _Likelihood:
    """−log p of drawn answers, and of labels where the data has classes, summed over samples."""

    def __init__(self, program: TorchModel, data: Dataset, seed: int) -> None:
        graph = program.graph
        self._classes = data.labels is not None and data.labels.dtype.kind in "iu"
        self._kinds = losses_of(graph, None)
        ends = (name for name in self._kinds if (node := graph.producer(name)) is not None and node.kind == "softmax")
        self._probabilities = frozenset(ends)
        self._random = torch.Generator().manual_seed(seed)
        if not self._kinds:
            raise ModelkitError("The model gives no floating-point output that a loss could be of.", _ADVICE)
        if self._classes:
            assert data.labels is not None
            _check(data.labels, graph.shape(next(iter(self._kinds))), data.origin)

    def __call__(self, outputs: Mapping[str, torch.Tensor], labels: Array | None) -> torch.Tensor:
        total = torch.stack([self._own(outputs[name].float(), kind, name) for name, kind in self._kinds.items()]).sum()
        if self._classes and labels is not None:
            name = next(iter(self._kinds))
            logits = logits_of(outputs[name].float(), name in self._probabilities)
            total = total + cross_entropy(logits, torch.from_numpy(labels).long(), "sum")
        return total

    def _own(self, output: torch.Tensor, kind: Loss, name: str) -> torch.Tensor:
        total = output.new_zeros(())
        if kind != "mse":
            logits = functional.log_softmax(logits_of(output, name in self._probabilities), -1).flatten(0, -2)
            drawn = torch.multinomial(logits.detach().exp(), 1, generator=self._random)
            total = total - logits.gather(-1, drawn).sum()
        if kind != "kl":
            noise = torch.randn(output.shape, generator=self._random)
            finite = torch.where(output.isfinite(), output, 0)
            total = total + (noise * finite).sum() / finite.detach().norm().clamp_min(1e-12) * len(output) ** 0.5
        return total


def _check(labels: Array, shape: Sequence[int] | None, origin: str) -> None:
    classes = shape[-1] if shape else None
    if classes is not None and labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ModelkitError(
            f"The labels in {origin} go from {labels.min()} to {labels.max()}, and the model tells {classes} classes apart.",
            "Give class indices, counting from 0, or data without labels.",
        )
