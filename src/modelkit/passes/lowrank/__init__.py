"""Plugins that say what an error of a factorised weight counts."""
