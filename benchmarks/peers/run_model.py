"""Run an ONNX model so many times and print the median latency in milliseconds: what one process of `hyperfine` does, and of
whoever measures two models one after the other."""

import sys
import time

import numpy as np
import onnxruntime

path, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
(spec,) = session.get_inputs()
feeds = {spec.name: np.random.default_rng(0).standard_normal([d if isinstance(d, int) else 1 for d in spec.shape]).astype("f")}
taken = []
for _ in range(runs):
    start = time.perf_counter()
    session.run(None, feeds)
    taken.append(time.perf_counter() - start)
print(1000 * float(np.median(taken[len(taken) // 10 :])))
