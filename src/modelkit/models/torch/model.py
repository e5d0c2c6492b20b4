"""A torch program as modelkit's Model.

The graph in memory stays as it came, with dense weights; forms and grids are kept beside it and written into a copy when the
model is run or saved. So a layer can be changed again, and the same program can be written in another way for ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram

from ...core.channels import Cut
from ...core.errors import ModelkitError
from ...core.forms import Array, Dense, DynamicGrid, WeightForm
from ...core.graph import Graph, Node
from ...core.lowrank import LowRank, check_shape
from ...core.model import EdgeGrid, Feeds, Provenance
from ...core.targets import TARGETS
from . import moving, running, saving, stored
from .canonical import canonical
from .constants import Constants
from .factorising import bypass, factorise
from .forms import Stored, StoredForms, to_array, to_tensor
from .graph import View, parameter_of, view
from .integers import to_integers
from .lowering import Records, lower, reason_against
from .opening import open_program
from .program import Program, arguments
from .shapes import Bindings, Shapes
from .shrinking import shrink
from .trainable import Trainable
from .walking import walk

if TYPE_CHECKING:
    import onnx


class TorchModel:
    """A model as an ExportedProgram, opened from .pt2, TorchScript, a pickled module or a state dict."""

    def __init__(
        self, program: Program, path: Path, format: str, provenance: Provenance, shapes: Shapes,
        forms: StoredForms, names: Mapping[str, str], grids: Mapping[str, EdgeGrid],
    ) -> None:  # fmt: skip
        self.path = path
        self.format = format
        self.provenance = provenance
        self._program = program
        self._shapes = shapes
        self._forms = dict(forms)
        self._names = dict(names)
        self._grids = dict(grids)
        self._view: View | None = None
        self._constants: Constants | None = None
        self._lowered: tuple[Program, list[Records]] | None = None
        self._final: tuple[Program, list[Records]] | None = None
        self._indices: dict[str, Array] | None = None

    @classmethod
    def open(
        cls, path: Path | str, *, trust: bool = False, arch: str | None = None, bindings: Bindings | None = None,
        example: Mapping[str, Array] | None = None,
    ) -> TorchModel:  # fmt: skip
        """Open a file. trust: allow files whose loading can run code. arch: "module:factory" that a state dict belongs to.

        bindings: (dtype, dims) of inputs where the file does not say; example: arrays by input name, the batch first, from which
        the same can be taken. Raises ModelkitError.
        """
        path = Path(path)
        exported, format, text = open_program(path, trust=trust, arch=arch, bindings=bindings, example=example)
        if bindings is None and example is not None:
            bindings = {name: (array.dtype.name, array.shape) for name, array in example.items()}
        return cls.of(exported, path, format, text, bindings)

    @classmethod
    def of(
        cls, exported: ExportedProgram, path: Path, format: str = "pt2", text: str = "", bindings: Bindings | None = None
    ) -> TorchModel:
        """The model of a program. `text` is the note that modelkit left in its file."""
        program = canonical(exported)
        stored.raise_integers(program, text)
        grids = stored.raise_grids(program)
        forms, names = stored.raise_forms(program, text)
        model = cls(program, path, format, stored.provenance_of(text), Shapes(program, bindings), forms, names, {})
        by_operator = {node.name: name for name, node in model._built().operators.items()}
        model._grids = stored.as_edge_grids(grids, by_operator)
        model.provenance.forms = {by_operator[name]: str(entry.form) for (name, role), entry in forms.items() if role == "weight"}
        return model

    @property
    def family(self) -> str:
        return "torch"

    @property
    def graph(self) -> Graph:
        return self._built().graph

    def files(self) -> list[Path]:
        return [self.path]

    def parameter(self, node: str, role: str) -> Array | None:
        view = self._built()
        entry = self._forms.get(view.sites.get((node, role), ("", "")))
        if entry is not None:
            return entry.form.decode()
        found = view.sources.get((node, role))
        return None if found is None else to_array(self._known().value(found))

    @property
    def grids(self) -> Mapping[str, EdgeGrid]:
        """The activations that are on static grids, by edge."""
        return self._grids

    def set_parameter(self, node: str, role: str, form: WeightForm, activation: DynamicGrid | None = None) -> None:
        reason = self.can_lower(node, form, activation) or self._misfit(node, role, form)
        if reason:
            raise ModelkitError(
                f"The {role} of layer {node} can't be stored as {form}: {reason}.", "Leave the layer out with --ignore."
            )
        site = self._built().sites[node, role]
        shared = next((entry.target for entry in self._forms.values() if entry.form is form), None)
        target = shared or self._forms[site].target if site in self._forms else shared or self._target(node, role)
        self._forms[site] = stored = Stored(form, target, activation)
        if role == "weight":
            if isinstance(form, Dense):
                self.provenance.forms.pop(node, None)
            else:
                self.provenance.forms[node] = str(form)
        self._forms_changed(shown=self.graph.by_name[node].parameters.get(role) != parameter_of(stored))

    def can_lower(self, node: str, form: WeightForm, activation: DynamicGrid | None = None) -> str | None:
        found = self.graph.by_name.get(node)
        return "there is no such layer" if found is None else reason_against(found, form, activation)

    def remove(self, node: str) -> None:
        found = self.graph.by_name.get(node)
        if found is None or len(found.inputs) != 1 or len(found.outputs) != 1:
            raise ModelkitError(f"{node} can't be taken out: it does not have one input and one output.", "Choose another node.")
        nodes = self._program.nodes()
        source, result = nodes[found.inputs[0]], nodes[found.outputs[0]]
        operator = self._built().operators[node].name
        self._forms = {site: entry for site, entry in self._forms.items() if site[0] != operator}
        self._grids.pop(result.name, None)
        self._program.replace_uses(result, source)
        self._program.prune()
        self._changed()

    def shrink(self, cut: Cut) -> None:
        self._settle_forms()
        expected = {edge: cut.shape(edge, self.graph.shape(edge) or ()) for edge in cut.edges}
        view, program = self._built(), self._program
        shrink(program, view, self._shapes, cut)
        self._changed()
        for edge, shape in expected.items():
            if edge in self.graph.edges and self.graph.shape(edge) != shape:
                raise ModelkitError(
                    f"After pruning {edge} has the shape {self.graph.shape(edge)} instead of {shape}.",
                    "Leave the layers around it out with --ignore, and report this with the model.",
                )

    def settle(self, node: str, edge: str, value: Array) -> None:
        self._settle_forms()
        reader, source = self._built().operators[node], self._program.nodes()[edge]
        reader.replace_input_with(source, self._program.add_tensor(f"{node}.settled", to_tensor(value)))
        self._program.prune()
        self._changed()

    def factorise(self, forms: Mapping[str, LowRank]) -> None:
        self._with_chains(factorise, forms)

    def bypass(self, forms: Mapping[str, LowRank]) -> None:
        self._with_chains(bypass, forms)

    def _with_chains(self, change: Callable[..., dict[str, str]], forms: Mapping[str, LowRank]) -> None:
        self._settle_forms()
        for name, form in forms.items():
            check_shape(self.graph.by_name[name], form)
        self._names = change(self._program, self._built(), forms, self._names)
        self._changed()

    def move(self, node: str, labels: Mapping[str, Array]) -> dict[str, Array] | None:
        view, nodes = self._built(), self._program.nodes()
        given = {view.sources[node, name] if (node, name) in view.sources else nodes[name]: labels[name] for name in labels}
        operator, constants = view.operators[node], self._known()
        needed = any(not constants.holds(nodes[name]) for name in moving.steering(operator))
        return moving.moved(operator, given, constants, self._shapes, self._integers() if needed else {})

    def _integers(self) -> dict[str, Array]:
        """The indices that operators which move data read, for one made-up sample; none if the model does not run on it."""
        if self._indices is None:
            from ...analysis.synthetic import synthetic_inputs

            view = self._built()
            movers = [view.operators[node.name] for node in view.graph.nodes if node.kind in ("reshape", "concat")]
            wanted = {name for operator in movers for name in moving.steering(operator)}
            try:
                self._indices = running.run(self._program, synthetic_inputs(view.graph, 1, 0), wanted) if wanted else {}
            except ModelkitError:
                self._indices = {}
        return self._indices

    def _settle_forms(self) -> None:
        """Write dense changes into the program for good. Raises ModelkitError for others."""
        if not self._is_dense():
            raise ModelkitError(
                f"{self.path} has weights or activations that are not dense.",
                "Prune channels first, and then go on with the result.",
            )
        if self._forms:
            self._program, self._forms = self._decoded()[0], {}
            self._changed()

    def _is_dense(self) -> bool:
        return not self._grids and all(isinstance(e.form, Dense) and not e.activation for e in self._forms.values())

    def quantize_edges(self, grids: Mapping[str, EdgeGrid]) -> None:
        edges = self.graph.edges
        for name in grids:
            if name not in edges or not edges[name].is_float:
                raise ModelkitError(
                    f"{name} can't be put on a grid: it is not a float tensor of the model.", "Choose another edge."
                )
        self._grids.update(grids)
        self._forms_changed(shown=False)

    def observe(self, batches: Iterable[Feeds], edges: Iterable[str]) -> Iterator[Mapping[str, Array]]:
        wanted = list(dict.fromkeys([*edges, *self.graph.outputs]))
        missing = [name for name in wanted if name not in self.graph.edges]
        if missing:
            raise ModelkitError(f"There is no edge {missing[0]} in the model.", "Ask for edges of its graph.")
        final = self._written()[0]
        names = self._renamed(final)
        for batch in batches:
            values = running.run(final, batch, {*wanted, *names.values()})
            yield {name: values[names.get(name, name)] for name in wanted}

    def segment(self, given: Iterable[str], wanted: Iterable[str]) -> Callable[[Feeds], Mapping[str, Array]]:
        lowered = self._decoded()[0]
        edges = self._renamed(lowered)
        names = {edge: edges.get(edge, edge) for edge in wanted}
        # Only values that are read as they are can be given: what an output is called when written is never read.
        compute = running.segment(lowered, set(given), set(names.values()))

        def run(feeds: Feeds) -> Mapping[str, Array]:
            values = compute(feeds)
            return {edge: values[name] for edge, name in names.items()}

        return run

    def _renamed(self, lowered: Program) -> dict[str, str]:
        """What the model's outputs are called in a lowered program."""
        before, after = self._program.user_outputs(), lowered.user_outputs()
        return {old.name: new.name for old, new in zip(before, after, strict=True)}

    def walk(self, batches: Sequence[Feeds], edges: Iterable[str]) -> Iterator[tuple[str, list[Array]]]:
        before = dict(self._forms)

        def changed(name: str) -> dict[str, torch.Tensor]:
            sites = [(name, argument) for argument in ("weight", "bias")]
            entries = {site: self._forms[site] for site in sites if self._forms.get(site) is not before.get(site)}
            return {argument: to_tensor(entry.form.decode()) for (_, argument), entry in entries.items()}

        return walk(self._decoded()[0], batches, list(dict.fromkeys(edges)), changed)

    def copy(self) -> TorchModel:
        program, forms = self._program, self._forms
        if forms and self._is_dense():  # written once for all copies
            program, forms = self._decoded()[0], {}
        return TorchModel(
            program.copy(), self.path, self.format, deepcopy(self.provenance), self._shapes, forms, self._names, self._grids
        )

    def save(self, path: Path) -> None:
        program, records = self._written()
        saving.save(program, Path(path), stored.note(self.provenance, records, self._operator_names()))

    def to_onnx(self) -> tuple[onnx.ModelProto, dict[str, str]]:
        """The model in ONNX and the initializer that is each layer's weight.

        Weights are dense (forms, and grids found at run time, are undone); static grids are QuantizeLinear and DequantizeLinear.
        """
        from .export_onnx import plain_products, quantize_dequantize, to_proto

        lowered, _ = lower(self._program, self._forms, self._placed_grids(), dense=True, grid_operators=quantize_dequantize)
        layers = self._operator_names()
        weights = {layers[name]: initializer for name, initializer in plain_products(lowered).items() if name in layers}
        return to_proto(lowered, list(self.graph.outputs), self._shapes.symbols()), weights

    def forms(self) -> dict[tuple[str, str], tuple[WeightForm, DynamicGrid | None]]:
        """The parameters, by node and role, that were set or came in a form, with the activation mode of their layer."""
        return {
            site: (entry.form, entry.activation) for site, at in self._built().sites.items() if (entry := self._forms.get(at))
        }

    def trainable(self, masked: bool, edges: Collection[str] = (), device: str = "cpu") -> Trainable:
        """The model as a module whose weights can be trained in their forms; `trained` takes them back. masked: whether zeros
        stay zero in all weights, not only in sparse ones. edges: values of the graph that it gives besides the outputs."""
        return Trainable.of(self._program, self._forms, self._placed_grids(), self.graph, masked, edges, device)

    def latent(self, trainable: Trainable, node: str, role: str) -> torch.nn.Parameter:
        """What is trained of a parameter that was set before `trainable` was made: its values, in the neutral layout if dense."""
        return trainable.latent(trainable.sites[self._built().sites[node, role]])

    def trained(self, trainable: Trainable) -> TorchModel:
        """A copy with the weights that `trainable`, made from this model, has by now."""
        result, weights = self.copy(), trainable.stored()
        for site, target in trainable.sites.items():
            result._forms[site] = replace(self._forms[site], form=weights[target])
        for target in weights.keys() - set(trainable.sites.values()):
            form = weights[target]
            new = to_tensor(form.decode())
            old = result._program.tensors[target]
            result._program.tensors[target] = torch.nn.Parameter(new) if isinstance(old, torch.nn.Parameter) else new
        return result

    def exported(self) -> ExportedProgram:
        """The model as it would be saved, in memory."""
        return self._written()[0].exported()

    def _written(self) -> tuple[Program, list[Records]]:
        """As the file has it: integer layers are products of integers."""
        if self._final is None:
            self._final = to_integers(*self._decoded(), TARGETS.get(self.provenance.target or ""), self._program.nodes())
        return self._final

    def _decoded(self) -> tuple[Program, list[Records]]:
        """With every weight decoded where its layer reads it, and every activation put on its grid in floating point."""
        if self._lowered is None:
            self._lowered = lower(self._program, self._forms, self._placed_grids())
        return self._lowered

    def _placed_grids(self) -> dict[str, EdgeGrid]:
        """The grids, with the fx nodes that read them."""
        operators = self._built().operators
        return {
            edge: replace(entry, readers=entry.readers and frozenset(operators[n].name for n in entry.readers if n in operators))
            for edge, entry in self._grids.items()
        }

    def _operator_names(self) -> dict[str, str]:
        return {node.name: name for name, node in self._built().operators.items()}

    def _built(self) -> View:
        if self._view is None:
            self._view = view(self._program, self._known(), self._shapes, self._forms, self._names)
            # A layer keeps its name whatever becomes of its weight.
            self._names = {node.name: name for name, node in self._view.operators.items()}
        return self._view

    def _known(self) -> Constants:
        if self._constants is None:
            self._constants = Constants(self._program)
        return self._constants

    def _changed(self) -> None:
        """The program did."""
        self._constants = self._indices = None
        self._forms_changed(shown=True)

    def _forms_changed(self, shown: bool) -> None:
        """`shown`: the graph shows that."""
        self._lowered = self._final = None
        if shown:
            self._view = None

    def _argument(self, node: str, role: str) -> fx.Node | None:
        name, argument = self._built().sites[node, role]
        value = arguments(self._program.nodes()[name]).get(argument)
        return value if isinstance(value, fx.Node) and self._known().holds(value) else None

    def _target(self, node: str, role: str) -> str:
        """The FQN that a new form is stored under: that of the parameter it replaces, unless another form has it."""
        found = self._argument(node, role)
        sources = self._known().sources(found) if found is not None else []
        wanted = sources[0] if sources else f"{node}.{role}"
        taken = {entry.target for entry in self._forms.values()}
        target, count = wanted, 0
        while target in taken:
            count += 1
            target = f"{wanted}_{count}"
        return target

    def _misfit(self, node: str, role: str, form: WeightForm) -> str | None:
        found: Node = self.graph.by_name[node]
        if (node, role) not in self._built().sites:
            return f"it has no {role}"
        known = found.parameters.get(role)
        if known is not None and known.shape != form.shape:
            return f"its shape is {known.shape}, not {form.shape}"
        if isinstance(form, Dense) and not np.issubdtype(form.array.dtype, np.number) and form.array.dtype.name != "bfloat16":
            return f"{form.array.dtype.name} is no type of numbers"
        return None
