"""Readers of calibration and evaluation data."""

from .dataset import Dataset
from .open import open_data

__all__ = ["Dataset", "open_data"]
