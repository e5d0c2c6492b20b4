"""Trains the sample models and writes them beside this file: `python sample_models/train.py [mlp|cnn|resnet|llama|all]`.

Needs the `train` extra. MNIST, CIFAR-10 and the text are read from --data; `resnet` needs only scikit-learn.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def train_mlp(data: Path) -> None:
    from sample_models import architectures, datasets, formats, training

    model = architectures.mnist_mlp()
    training.train(model, datasets.mnist(data, "train"), training.Recipe(epochs=10, learning_rate=3e-3, batch_size=256))
    test = datasets.mnist(data, "test")
    formats.save_all(model, ROOT / "mnist-mlp", test.x[:4], {"scale": 1 / 255, "mean": [0.0], "std": [1.0]})
    _report("mnist-mlp", model, training.accuracy(model, test))


def train_cnn(data: Path) -> None:
    from sample_models import architectures, datasets, formats, training

    model = architectures.CifarCNN(training_aids=True)
    recipe = training.Recipe(epochs=20, learning_rate=4e-3, weight_decay=0.05, augmentation=training.shift(3, mirror=True))
    training.train(model, datasets.cifar(data, "train"), recipe)
    plain = model.plain()
    test = datasets.cifar(data, "test")
    preprocessing = {"scale": 1 / 255, "mean": list(datasets.CIFAR_MEAN), "std": list(datasets.CIFAR_STD)}
    formats.save_all(plain, ROOT / "cifar-cnn", test.x[:4], preprocessing)
    _report("cifar-cnn", plain, training.accuracy(plain, test))


def train_resnet(data: Path) -> None:
    import numpy as np

    from sample_models import architectures, datasets, formats, training

    model = architectures.digits_resnet()
    train, test = datasets.digits()
    recipe = training.Recipe(epochs=25, learning_rate=3e-3, batch_size=64, augmentation=training.shift(1, mirror=False))
    training.train(model, train, recipe)
    folder = ROOT / "digits-resnet"
    formats.save_all(model, folder, test.x[:4], None)
    np.savez_compressed(folder / "digits-test.npz", x=test.x.numpy(), y=test.y.numpy())
    np.savez_compressed(folder / "digits-calib.npz", x=train.x[:128].numpy(), y=train.y[:128].numpy())
    _report("digits-resnet", model, training.accuracy(model, test))


def train_llama(data: Path) -> None:
    from sample_models.language_model import train_language_model

    train_language_model(data / "text" / "tinyshakespeare.txt", ROOT / "shakespeare-llama")


def _report(name: str, model: object, accuracy: float) -> None:
    from torch import nn

    assert isinstance(model, nn.Module)
    print(f"{name}: test accuracy {accuracy:.4f}, {sum(p.numel() for p in model.parameters())} parameters")


def main() -> None:
    trainers = {"mlp": train_mlp, "cnn": train_cnn, "resnet": train_resnet, "llama": train_llama}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="all", choices=[*trainers, "all"])
    parser.add_argument("--data", type=Path, default=ROOT.parents[1] / "shared" / "data", help="folder of the data sets")
    parser.add_argument("--threads", type=int, default=1, help="the same seed gives the same weights only at the same number")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    for name in trainers if arguments.model == "all" else [arguments.model]:
        torch.manual_seed(0)
        start = time.monotonic()
        trainers[name](arguments.data)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT.parent))
    main()
