"""Torch programs: .pt2, TorchScript, pickled modules and state dicts, all as an ExportedProgram."""
