"""The images the models are trained on: MNIST and CIFAR-10 from a folder of `.npz` files, digits from scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


class Images(NamedTuple):
    """Model inputs (N, ...) as float32 and class labels (N,) as int64."""

    x: Tensor
    y: Tensor


def mnist(folder: Path, part: str) -> Images:
    """`part` is train or test. x (N, 784), pixels scaled to [0, 1]."""
    with np.load(folder / f"mnist_{part}.npz") as data:
        x = data["x"].reshape(-1, 784).astype(np.float32) / 255
        return Images(torch.from_numpy(x), torch.from_numpy(data["y"]))


def cifar(folder: Path, part: str) -> Images:
    """`part` is train or test. x (N, 3, 32, 32), normalised by the channels' mean and standard deviation."""
    with np.load(folder / f"cifar10_{part}.npz") as data:
        x = (data["x"].astype(np.float32) / 255 - np.asarray(CIFAR_MEAN, np.float32)) / np.asarray(CIFAR_STD, np.float32)
        return Images(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.from_numpy(data["y"]))


def digits() -> tuple[Images, Images]:
    """Training and test part (1,347 and 450, stratified). x (N, 1, 8, 8), pixels scaled from 0..16 to [0, 1]."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    x = (source.images[:, None] / 16).astype(np.float32)
    y = source.target.astype(np.int64)
    split = train_test_split(x, y, test_size=450, stratify=y, random_state=0)
    x_train, x_test, y_train, y_test = map(torch.from_numpy, split)
    return Images(x_train, y_train), Images(x_test, y_test)
