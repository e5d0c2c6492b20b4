"""`lowrank`: layers as chains of narrower ones."""
