"""Low-rank factorisation of weights."""
