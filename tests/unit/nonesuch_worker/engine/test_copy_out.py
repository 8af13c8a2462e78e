"""Copies between the host and a CPU, which is the host (for a GPU: tests/gpu/test_copy_out_gpu.py)."""

import numpy as np
import torch

from nonesuch_worker.engine.copy_out import copy_in, copy_out

CPU = torch.device("cpu")


def test_on_a_cpu_nothing_is_copied() -> None:
    images = torch.randint(0, 256, (3, 4, 5, 1), dtype=torch.uint8)
    copied = copy_out(images)
    found = copied.numpy()
    assert found.dtype == np.uint8 and np.array_equal(found, images)
    assert found.__array_interface__["data"] == copied.numpy().__array_interface__["data"]
    assert found.__array_interface__["data"][0] == images.data_ptr()


def test_what_was_read_outlives_the_copy_and_the_tensor() -> None:
    images = torch.full((2, 2, 2, 3), 7, dtype=torch.uint8)
    copied = copy_out(images)
    found = copied.numpy()
    del images, copied
    for _ in range(10):
        copy_out(torch.zeros((2, 2, 2, 3), dtype=torch.uint8))
    assert (found == 7).all()


def test_on_a_cpu_arrays_go_in_as_they_are() -> None:
    z = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    tensor = copy_in(z, CPU)
    assert tensor.dtype == torch.float32 and tensor.device == CPU
    assert tensor.data_ptr() == z.__array_interface__["data"][0]
