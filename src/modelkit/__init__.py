"""modelkit makes a model file smaller and faster, and proves that the result is better."""

__version__ = "0.1.0"
