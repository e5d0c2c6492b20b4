"""Fixtures for every test."""

from tests.zoo_cache import zoo

__all__ = ["zoo"]
