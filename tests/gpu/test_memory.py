"""Memory that runs out: the real thing on a GPU, by a limit on this process."""

import pytest
import torch
import torch.nn.functional as F
from gpu_judge import moved, numbers
from torch import nn

from paraloss.compute import Split, compute_surface, random_direction

LIMIT = 400 << 20  # beside what is reserved already
ROOM = 256  # samples at once that the CPU's stand-in for a small memory allows


class Hungry(nn.Module):
    """Half a megabyte of activations for each sample."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 64, 3, padding=1), nn.Linear(64, 10)

    def forward(self, x):
        if x.device.type == "cpu" and len(x) > ROOM and x.dtype == torch.float32:
            raise torch.OutOfMemoryError
        return self.out(torch.tanh(self.conv(x)).mean(dim=(2, 3)))


@pytest.fixture
def little_memory(device):
    if device.type == "cpu":
        yield
        return
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((LIMIT + torch.cuda.memory_reserved(device)) / whole, device)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    torch.cuda.empty_cache()


def test_batches_that_do_not_fit_are_made_smaller_and_the_losses_stay(device, little_memory, caplog):
    torch.manual_seed(0)
    model = Hungry().eval()
    split = Split(torch.randn(1024, 3, 32, 32), torch.randint(0, 10, (1024,)))
    generator = torch.Generator().manual_seed(0)
    directions = [random_direction(model, generator) for _ in "xy"]
    given = {"x": (-1, 1, 3), "y": (-1, 1, 2), "directions": directions, "progress": False}
    surface = compute_surface(model, "cross_entropy", {"train": split}, device=str(device), batch_size=1024, **given)
    assert "out of memory" in caplog.text
    with torch.no_grad():
        here = moved(model, directions, (-1.0, 1.0))
        outputs = torch.cat([here(part) for part in numbers(split).split(256)])
    expected = F.cross_entropy(outputs, split.targets).item()
    assert surface.at(-1.0, 1.0)["train_loss"] == pytest.approx(expected, rel=1e-5)
