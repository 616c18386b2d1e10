"""Devices by name, float32 on a GPU, and what is said of an exhausted memory."""

import pytest
import torch

from repkit.errors import RepkitError, UsageError
from repkit.runs.device import settle_device, within_memory


@pytest.fixture
def gpus(monkeypatch):
    """Let torch see some GPUs, which no test computes on."""

    def let_be(n):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)

    return let_be


@pytest.mark.parametrize(("n", "name", "found"), [(0, "auto", "cpu"), (2, "auto", "cuda"), (2, "cpu", "cpu"), (2, "cuda:1", "cuda:1")])  # fmt: skip
def test_a_device_is_what_its_name_says_and_float32_is_float32_on_a_gpu(gpus, n, name, found):
    gpus(n)
    assert str(settle_device(name)) == found
    assert torch.backends.cudnn.allow_tf32 == (found == "cpu")


@pytest.mark.parametrize(
    ("n", "name", "said"),
    [
        (0, "cuda", "torch finds no GPU on .*CUDA_VISIBLE_DEVICES"),
        (2, "cuda:2", "cuda:2: torch finds 2 GPUs on .*CUDA_VISIBLE_DEVICES"),
        (2, "gpu", "'gpu': one of auto, cpu, cuda, cuda:N, mps was expected"),
        (2, '"cuda"', "one of auto"),
    ],
)
def test_a_device_that_is_not_there_or_no_device_is_refused(gpus, n, name, said):
    gpus(n)
    with pytest.raises(UsageError, match=f"encoder setting device .*{said}"):
        settle_device(name, "encoder setting device")


def test_an_exhausted_memory_is_told_with_what_to_lower():
    def raises(error):
        told = pytest.raises(RepkitError, match="job 7: out of memory .*; lower --workers, and start")
        with told, within_memory("job 7", "lower --workers"):
            error()

    def of_a_gpu():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    raises(of_a_gpu)
    raises(lambda: torch.empty(2**60, dtype=torch.uint8))  # more than any machine has
    with pytest.raises(RuntimeError, match="shapes"), within_memory("job 7", "lower --workers"):
        raise RuntimeError("shapes")
