"""`prune`: channels taken out, or weights set to zero."""
