"""A detector as torchvision has them: lists of images and targets, a dict of losses out of ``forward``."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn
from torch.utils.data import DataLoader


class Detector(nn.Module):
    """Boxes of images of any size; the losses are summed over the objects of all images."""

    def __init__(self):
        super().__init__()
        self.trunk, self.boxes, self.classes = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4), nn.Linear(6, 3)

    def forward(self, images, targets):
        losses = {"box": 0.0, "class": 0.0}
        for image, target in zip(images, targets, strict=True):
            features = F.relu(self.trunk(image[None])).mean(dim=(2, 3)).expand(len(target["labels"]), -1)
            losses["box"] += F.smooth_l1_loss(self.boxes(features), target["boxes"], reduction="sum")
            losses["class"] += F.cross_entropy(self.classes(features), target["labels"], reduction="sum")
        return losses


def build():
    torch.manual_seed(0)
    return Detector()


def scenes():
    generator = torch.Generator().manual_seed(1)
    found = []
    for k in range(14):
        objects = 1 + k % 4
        image = torch.randn(3, 6 + k % 3, 8, generator=generator)
        labels = torch.randint(0, 3, (objects,), generator=generator)
        found.append((image, {"boxes": torch.rand(objects, 4, generator=generator), "labels": labels}))
    return found


def data():
    return DataLoader(scenes(), batch_size=4, collate_fn=lambda samples: tuple(zip(*samples, strict=True)))


def step(model, batch):
    """Sum over the objects, and their number."""
    images, targets = batch
    return sum(model(images, targets).values()), sum(len(target["labels"]) for target in targets)


def mean_step(model, batch):
    total, count = step(model, batch)
    return total / count


def loop(model):
    losses, objects = 0.0, 0
    for image, target in scenes():
        losses += sum(model([image], [target]).values()).item()
        objects += len(target["labels"])
    return {"train_loss": losses / objects}


def test_losses_out_of_forward_are_sums_over_objects():
    assert_right(surface_of(build(), None, data(), step=step), build(), loop)


def test_a_mean_over_an_unknown_number_of_samples_is_refused():
    with pytest.raises(Exception, match="return \\(n,\\) losses or a pair \\(sum, count\\)"):
        surface_of(build(), None, data(), step=mean_step)


@pytest.mark.slow
def test_a_detector_on_two_ranks(tmp_path):
    surface = surface_on_ranks(__file__, tmp_path, "--step", f"{__file__}:step", "--split-data=2", model=build())
    assert_right(surface, build(), loop)
