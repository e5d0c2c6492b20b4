"""The ONNX adapter: a file as modelkit's `Model`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import onnx

from modelkit.core.channels import Cut
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array, Dense, DynamicGrid, WeightForm
from modelkit.core.graph import Graph, Node, Parameter
from modelkit.core.lowrank import LowRank, check_shape
from modelkit.core.model import EdgeGrid, Feeds, Provenance

from . import emission, factorising, metadata, moving, opening, rewiring, saving, session, shapes, shrinking
from . import graph as graphs
from .emission import Changes
from .graph import View
from .layers import Site
from .program import Program
from .shapes import Bindings, Shapes
from .walking import walk


class OnnxModel:
    """An ONNX model, as it was opened, with the changes made since. Changes become nodes when the model is run or saved.

    The opened program is never altered, so copies share it, and its weights stay in the memory-mapped file until they are read.
    """

    format = "onnx"
    family = "onnx"

    def __init__(self, path: Path, program: Program, known: Shapes, provenance: Provenance) -> None:
        self.path = path
        self.provenance = provenance
        self._program = program
        self._shapes = known
        self._opened = graphs.build(program, known, provenance.forms)
        self._changes = Changes()
        self._removed: tuple[str, ...] = ()
        self._current: tuple[Program, View] | None = None
        self._shown: Graph | None = None
        self._steering: dict[str, Array] | None = None

    @classmethod
    def open(cls, path: Path, bindings: Bindings | None = None, example: Feeds | None = None) -> OnnxModel:
        """Open a file. `bindings` give shapes (and types) of inputs where the file leaves them open; without them, sample arrays
        do where they fit. Raises ModelkitError."""
        program = opening.load(Path(path))
        if not bindings and example:
            bindings = shapes.fitting(program, example)
        return cls._of(Path(path), program, bindings)

    @classmethod
    def from_proto(cls, proto: onnx.ModelProto, path: Path, base_dir: Path) -> OnnxModel:
        """A model in memory, called `path`; its external data is looked for in `base_dir`."""
        return cls._of(Path(path), opening.from_proto(proto, Path(path), Path(base_dir)), None)

    @classmethod
    def _of(cls, path: Path, program: Program, bindings: Bindings | None) -> OnnxModel:
        model = cls(path, program, shapes.infer(program, bindings, path), metadata.read(program.structure, path))
        if model._learn_shapes():
            model._opened = graphs.build(program, model._shapes, model.provenance.forms)
        return model

    def _learn_shapes(self) -> bool:
        """Run the model once on made-up inputs, where shapes of its values could not be inferred. Whether any was learnt."""
        missing = [name for name, edge in self._opened.graph.edges.items() if edge.shape is None]
        if not missing:
            return False
        from modelkit.analysis.synthetic import synthetic_inputs

        for optimise in (False, True):  # the second takes longer, but some files run only with their constants folded
            with suppress(ModelkitError):
                feeds = synthetic_inputs(self._opened.graph, 1, 0)
                values = next(session.observe(self._program, [feeds], missing, optimise))
                break
        else:  # a model that needs special inputs: its graph is shown without these shapes
            return False
        for name, value in values.items():
            if hasattr(value, "shape"):
                self._shapes.found[name], self._shapes.dtypes[name] = tuple(value.shape), value.dtype.name
            else:
                self._shapes.dtypes[name] = "sequence"
        return True

    @property
    def graph(self) -> Graph:
        if self._shown is None:
            _, view = self._reduced()
            nodes = tuple(self._with_forms(node) for node in view.graph.nodes)
            self._shown = dataclasses.replace(view.graph, nodes=nodes)
        return self._shown

    def _with_forms(self, node: Node) -> Node:
        changed = {role: form for role in ("weight", "bias") if (form := self._changes.forms.get((node.name, role))) is not None}
        if not changed:
            return node
        parameters = dict(node.parameters)
        for role, form in changed.items():
            owner = next(site for site, other in self._changes.forms.items() if other is form)  # tied layers share the object
            name, shape = ".".join(owner), tuple(form.shape)
            dtype = node.parameters["weight"].dtype
            parameters[role] = Parameter(name, shape, dtype, form.nbytes, str(form), (name,), tuple(range(len(shape))))
        return dataclasses.replace(node, parameters=parameters)

    def _reduced(self) -> tuple[Program, View]:
        """The opened program without the removed nodes."""
        if self._current is None:
            if self._removed:
                program = rewiring.without(self._program, [self._opened.sites[name].members[0] for name in self._removed])
                self._current = program, graphs.build(program, self._shapes, self.provenance.forms)
            else:
                self._current = self._program, self._opened
        return self._current

    def _written(self) -> Program:
        program, view = self._reduced()
        return emission.write(program, view, self._changes)

    def files(self) -> list[Path]:
        return [self.path, *self._program.data_files]

    def _site(self, node: str) -> Site:
        if node not in self._opened.sites:
            raise ModelkitError(f"{self.path} has no node {node!r}.", "Its nodes are listed by `modelkit inspect`.")
        return self._opened.sites[node]

    def parameter(self, node: str, role: str) -> Array | None:
        site = self._site(node)
        form = self._changes.forms.get((node, role))
        if form is not None:
            return form.decode()
        return site.read[role]() if role in site.read else None

    def can_lower(self, node: str, form: WeightForm, activation: DynamicGrid | None = None) -> str | None:
        site = self._site(node)
        return emission.reason_against(self._opened.graph.by_name[node], site, form, activation is not None)

    def set_parameter(self, node: str, role: str, form: WeightForm, activation: DynamicGrid | None = None) -> None:
        site, shown = self._site(node), self._opened.graph.by_name[node]
        biased = shown.kind in ("linear", "conv") or site.style == "norm"
        if role not in ("weight", "bias") or (role == "bias" and not biased):
            raise ModelkitError(f"The {role} of {node} can't be replaced.", "Only weights and biases of layers can.")
        reason = shown.skip if role == "bias" else self.can_lower(node, form, activation)
        if reason is not None or site.style == "fixed":
            raise ModelkitError(
                f"{node} can't take the form {form}: {reason}.", "Leave it out with --ignore, or choose another form."
            )
        if role == "weight" and tuple(form.shape) != shown.parameters["weight"].shape:
            raise ModelkitError(
                f"{node} has a weight of shape {list(shown.parameters['weight'].shape)}, not {list(form.shape)}.",
                "Keep the shape.",
            )
        self._changes.forms[node, role] = form
        if role == "weight":
            self._changes.dynamic.pop(node, None)
            if activation is not None:
                self._changes.dynamic[node] = activation
            if isinstance(form, Dense):
                self.provenance.forms.pop(node, None)
            else:
                self.provenance.forms[node] = str(form)
        self._shown = None

    def remove(self, node: str) -> None:
        site = self._site(node)
        shown = self._opened.graph.by_name[node]
        if len(shown.inputs) != 1 or len(shown.outputs) != 1 or len(site.members) != 1:
            raise ModelkitError(f"{node} can't be taken out.", "Only nodes with one input and one output can.")
        if node not in self._removed:
            self._removed = (*self._removed, node)
        self._current = self._shown = None

    def shrink(self, cut: Cut) -> None:
        expected = {edge: cut.shape(edge, self.graph.shape(edge) or ()) for edge in self.graph.edges}
        program, view = self._settled()
        self._adopt(shrinking.shrink(program, view, cut))
        for edge, found in self.graph.edges.items():
            if edge in cut.edges and found.shape not in (None, expected[edge]):
                raise ModelkitError(
                    f"After pruning {edge} has the shape {list(found.shape or ())} instead of {list(expected[edge])}.",
                    "Leave the layers around it out with --ignore, and report this with the model.",
                )

    def settle(self, node: str, edge: str, value: Array) -> None:
        program, view = self._settled()
        self._adopt(rewiring.settled(program, view.sites[node].members, edge, value))

    def factorise(self, forms: Mapping[str, LowRank]) -> None:
        self._adopt(factorising.factorised(*self._settled_for(forms), forms))

    def bypass(self, forms: Mapping[str, LowRank]) -> None:
        self._adopt(*factorising.bypassed(*self._settled_for(forms), forms))

    def _settled_for(self, forms: Mapping[str, LowRank]) -> tuple[Program, View]:
        program, view = self._settled()
        for name, form in forms.items():
            check_shape(view.graph.by_name[name], form)
        return program, view

    def move(self, node: str, labels: Mapping[str, Array]) -> dict[str, Array] | None:
        program, view = self._reduced()
        site = view.sites[node]
        given = {site.values.get(name, name): array for name, array in labels.items()}
        return moving.moved(program, program.node[site.members[0]], given, self._steered())

    def _steered(self) -> dict[str, Array]:
        """The integers that nodes which move data read, for one made-up sample; none if the model does not run on it."""
        if self._steering is None:
            from modelkit.analysis.synthetic import synthetic_inputs

            program, view = self._reduced()
            edges = moving.steering_edges(view.graph)
            try:
                values = (
                    next(session.observe(program, [synthetic_inputs(view.graph, 1, 0)], edges, optimise=False)) if edges else {}
                )
            except ModelkitError:
                values = {}
            self._steering = dict(values)
        return self._steering

    def _settled(self) -> tuple[Program, View]:
        """The program with dense changes written into it for good. Raises ModelkitError for others."""
        if self._changes.grids or self._changes.dynamic or not all(isinstance(f, Dense) for f in self._changes.forms.values()):
            raise ModelkitError(
                f"{self.path} has weights or activations that are not dense.",
                "Prune channels first, and then go on with the result.",
            )
        if self._changes.forms:
            self._adopt(self._written())
        return self._reduced()

    def _adopt(self, program: Program, moved: Mapping[str, str] | None = None) -> None:
        """Go on with a program whose structure is another. moved: edges that nodes write in it instead of those they wrote."""
        names = {(moved or {}).get(edge, edge): name for edge, name in self._names().items()}
        self._shapes = self._known_shapes(program)
        self._program, self._removed, self._changes = program, (), Changes()
        self._opened = graphs.build(program, self._shapes, self.provenance.forms, names)
        self._current = self._shown = self._steering = None
        if self._learn_shapes():
            self._opened = graphs.build(program, self._shapes, self.provenance.forms, names)

    def _known_shapes(self, program: Program) -> Shapes:
        sizes = {spec.name: ("", self._shapes.found[spec.name]) for spec in self._shapes.inputs if spec.name in program.inputs}
        return shapes.infer(program, sizes, self.path)

    def _names(self) -> dict[str, str]:
        return {node.outputs[0]: node.name for node in self.graph.nodes if node.outputs}

    def quantize_edges(self, grids: Mapping[str, EdgeGrid]) -> None:
        _, view = self._reduced()
        for edge in grids:
            if edge not in view.graph.edges or not view.graph.edges[edge].is_float:
                raise ModelkitError(f"{edge!r} is no float tensor of {self.path}.", "Only float activations can be put on grids.")
        self._changes.grids.update(grids)

    def observe(self, batches: Iterable[Feeds], edges: Iterable[str]) -> Iterator[Mapping[str, Array]]:
        program, watched = self._written(), tuple(edges)
        if watched:
            session.return_big_blocks_at_once()
        wanted = list(dict.fromkeys((*watched, *program.outputs)))
        return session.observe(program, batches, wanted)

    def segment(self, given: Iterable[str], wanted: Iterable[str]) -> Callable[[Feeds], Mapping[str, Array]]:
        return session.segment(
            self._written(), {edge: self.graph.edges[edge].dtype for edge in given}, list(dict.fromkeys(wanted))
        )

    def walk(self, batches: Sequence[Feeds], edges: Iterable[str]) -> Iterator[tuple[str, list[Array]]]:
        program, view = self._reduced()
        position = {name: index for index, node in enumerate(program.nodes) for name in node.output}

        def written(part: Program) -> Program:
            inside = {node.name for node in part.nodes}
            layers = {name for name in self._changes.layers() if view.sites[name].members[0] in inside}
            return emission.write(part, view, self._changes.only(layers))

        return walk(program, batches, sorted(dict.fromkeys(edges), key=lambda edge: position.get(edge, -1)), written)

    def copy(self) -> OnnxModel:
        twin = OnnxModel.__new__(OnnxModel)
        twin.__dict__.update(self.__dict__)
        twin.provenance = metadata.copied(self.provenance)
        twin._changes = self._changes.copy()
        return twin

    def save(self, path: Path) -> None:
        """Write an ONNX file; big tensors go to `<path>.data` beside it if they did so before or don't fit in one message."""
        saving.save(metadata.written(self._written(), self.provenance), Path(path), external=bool(self._program.data_files))
