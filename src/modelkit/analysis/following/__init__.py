"""Following labels through a graph: which elements of its tensors belong to one unit."""
