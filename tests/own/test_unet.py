"""A U-Net for segmentation: unlabeled pixels are 255, the loss ignores them, the metric is the intersection over union."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn


class UNet(nn.Module):
    def __init__(self, width=6, classes=3):
        super().__init__()
        self.down, self.inner = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, padding=1)
        self.norm, self.up = nn.BatchNorm2d(2 * width), nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.head = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x):
        outer = F.relu(self.down(x))
        inner = F.relu(self.norm(self.inner(F.max_pool2d(outer, 2))))
        return self.head(torch.cat([outer, self.up(inner)], dim=1))


def build():
    torch.manual_seed(0)
    return UNet()


def data():
    generator = torch.Generator().manual_seed(1)
    images, masks = torch.randn(12, 3, 8, 8, generator=generator), torch.randint(0, 3, (12, 8, 8), generator=generator)
    for row in range(12):
        masks[row, : row // 2] = 255
    return images, masks


loss = nn.CrossEntropyLoss(ignore_index=255)


def iou(outputs, targets):
    """Sum of the intersections of class 1, and of its unions."""
    found, there = outputs.argmax(1) == 1, targets == 1
    counts = targets != 255
    return (found & there & counts).sum(), ((found | there) & counts).sum()


def loop(model):
    images, masks = data()
    outputs, kept = model(images), masks != 255
    both, either = iou(outputs, masks)
    return {
        "train_loss": loss(outputs, masks).item(),
        "train_acc": 100 * (outputs.argmax(1) == masks)[kept].double().mean().item(),
        "train_iou": (both / either).item(),
    }


@pytest.mark.parametrize("given", [loss, lambda o, t: F.cross_entropy(o, t, ignore_index=255)], ids=["module", "function"])
def test_unlabeled_pixels_count_nowhere(given):
    surface = surface_of(build(), given, data(), batch_size=5, metrics=["loss", "acc", iou])
    assert_right(surface, build(), loop)


@pytest.mark.slow
def test_segmentation_on_two_ranks(tmp_path):
    options = ("--loss", f"{__file__}:loss", "--metrics", f"loss,acc,{__file__}:iou", "--split-data=2")
    assert_right(surface_on_ranks(__file__, tmp_path, *options, model=build()), build(), loop)
