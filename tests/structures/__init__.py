"""STRUCTURES: small networks, each with one way in which channels depend on each other."""

from . import convolutions, sequences
from .structure import STRUCTURES, Structure

__all__ = ["STRUCTURES", "Structure", "convolutions", "sequences"]
