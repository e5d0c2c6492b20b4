"""The first look at calibration arrays reads no more than it shows."""

import numpy as np
import pytest

from modelkit.core.errors import ModelkitError
from modelkit.data.peek import first_rows


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_first_rows_of_every_array_but_labels_and_raw_images(tmp_path, save):
    x = np.arange(24, dtype=np.float64).reshape(4, 3, 2)
    save(tmp_path / "c.npz", x=x, t=np.asfortranarray(x[:, :, 0]), y=np.zeros(4), raw=np.zeros((4, 8, 8, 3), np.uint8))
    found = first_rows(tmp_path / "c.npz", 2)
    assert set(found) == {"x", "t"} and found["x"].dtype == np.float32
    assert (found["x"] == x[:2]).all() and (found["t"] == x[:2, :, 0]).all()


def test_a_single_array_is_called_x(tmp_path):
    np.save(tmp_path / "c.npy", np.ones((1, 3), np.float32))
    assert first_rows(tmp_path / "c.npy", 2)["x"].shape == (1, 3)


def test_pickles_and_damage_are_refused(tmp_path):
    np.savez(tmp_path / "c.npz", x=np.array([{}, []], dtype=object))
    with pytest.raises(ModelkitError):
        first_rows(tmp_path / "c.npz", 2)
    (tmp_path / "d.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:50])
    with pytest.raises(ModelkitError):
        first_rows(tmp_path / "d.npz", 2)
