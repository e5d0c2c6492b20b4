"""`quantize`: weights and activations in few bits."""
