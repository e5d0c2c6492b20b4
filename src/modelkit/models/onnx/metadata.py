"""Provenance in the file's metadata_props."""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from pathlib import Path

import onnx

from modelkit.core.errors import InputWarning
from modelkit.core.model import Preprocessing, Provenance

from .program import Program

_HISTORY, _FORMS, _PREPROCESSING, _TARGET = (f"modelkit.{it}" for it in ("history", "forms", "preprocessing", "target"))


def read(structure: onnx.ModelProto, path: Path) -> Provenance:
    """Provenance as an earlier command wrote it; empty for other files."""
    entries = {entry.key: entry.value for entry in structure.metadata_props if entry.key.startswith("modelkit.")}
    try:
        stated = json.loads(entries.get(_PREPROCESSING, "null"))
        preprocessing = stated and Preprocessing(float(stated["scale"]), tuple(stated["mean"]), tuple(stated["std"]))
        target = json.loads(entries.get(_TARGET, "null"))
        return Provenance(
            list(json.loads(entries.get(_HISTORY, "[]"))),
            dict(json.loads(entries.get(_FORMS, "{}"))),
            preprocessing,
            target if isinstance(target, str) else None,
        )
    except (ValueError, KeyError, TypeError):
        warnings.warn(InputWarning(f"{path}: its modelkit metadata can't be read and is left out."), stacklevel=2)
        return Provenance()


def written(program: Program, provenance: Provenance) -> Program:
    """The program with this provenance in its metadata, beside what others wrote there."""
    structure = onnx.ModelProto()
    structure.CopyFrom(program.structure)
    others = [entry for entry in structure.metadata_props if not entry.key.startswith("modelkit.")]
    structure.ClearField("metadata_props")
    structure.metadata_props.extend(others)
    preprocessing = dataclasses.asdict(provenance.preprocessing) if provenance.preprocessing else None
    for key, value in (
        (_HISTORY, provenance.history),
        (_FORMS, provenance.forms),
        (_PREPROCESSING, preprocessing),
        (_TARGET, provenance.target),
    ):
        if value:
            structure.metadata_props.add(key=key, value=json.dumps(value))
    return dataclasses.replace(program, structure=structure)


def copied(provenance: Provenance) -> Provenance:
    return copy.deepcopy(provenance)
