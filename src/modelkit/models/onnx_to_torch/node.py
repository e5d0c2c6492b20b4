"""One ONNX node as the translating functions see it: typed attributes, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx

from modelkit.core.errors import ModelkitError


@dataclass
class Node:
    """An operator with its attributes. `inputs` has "" for absent optional inputs; `graphs` holds subgraphs by attribute."""

    operator: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    opset: int
    attributes: dict[str, Any] = field(default_factory=dict)
    graphs: dict[str, onnx.GraphProto] = field(default_factory=dict)

    @classmethod
    def read(cls, proto: onnx.NodeProto, opset: int) -> Node:
        """From a NodeProto; tensor attributes are left as TensorProto."""
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute if a.type != onnx.AttributeProto.GRAPH}
        graphs = {a.name: a.g for a in proto.attribute if a.type == onnx.AttributeProto.GRAPH}
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        name = proto.name or next((o for o in proto.output if o), "unnamed")
        return cls(proto.op_type, domain, name, list(proto.input), list(proto.output), opset, attributes, graphs)

    def integer(self, name: str, default: int) -> int:
        """An int attribute."""
        return int(self.attributes.get(name, default))

    def real(self, name: str, default: float) -> float:
        """A float attribute."""
        return float(self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: list[int] | None = None) -> list[int] | None:
        """An attribute that is a list of ints."""
        return [int(i) for i in self.attributes[name]] if name in self.attributes else default

    def has_output(self, position: int) -> bool:
        """Whether someone named, and so may use, an output."""
        return position < len(self.outputs) and self.outputs[position] != ""

    def refuse(
        self, why: str, fix: str = "Export the model without it, or convert it in the framework that made it."
    ) -> ModelkitError:
        """The error to raise for a use of this operator that torch has no counterpart for."""
        return ModelkitError(f"The operator {self.operator} (node {self.name}) can't be translated to torch: {why}.", fix)
