"""A model under pytest-benchmark; MODEL and THREADS are in the environment."""

import os

import numpy as np
import onnxruntime


def test_latency(benchmark):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["THREADS"])
    session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
    (spec,) = session.get_inputs()
    shape = [d if isinstance(d, int) else 1 for d in spec.shape]
    feeds = {spec.name: np.random.default_rng(0).standard_normal(shape).astype("f")}
    benchmark(lambda: session.run(None, feeds))
