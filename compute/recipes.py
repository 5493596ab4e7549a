"""Training recipes: how the learning rate runs, and what is done to the inputs of a training step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from paraloss.compute.inputs.split import Split
from paraloss.errors import InputError

WARM_UP = 0.05
"""Share of the steps in which the rate of the recipe cifar rises from zero."""
PADDING = 4
"""Pixels of zeros around an image before the recipe cifar crops it back to its size (He et al. 2016, section 4.2)."""

SMALLER = ((0.5, 0.5), (0.8, 0.75))
"""Progressive training: up to this share of the epochs, images at this share of their size; whole ones afterwards."""


@dataclass(frozen=True)
class Recipe:
    """What a recipe's name stands for.

    Attributes:
        rate: (steps done, steps in all, epochs in all) -> factor of the learning rate.
        augment: (images, generator) -> images for one step; None for the images as they are.
    """

    rate: Callable[[int, int, int], float]
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def check(self, split: Split) -> None:
        """Check that the recipe can be used on ``split``.

        Raises:
            InputError: inputs that are not images, for a recipe that crops and flips them.
        """
        if self.augment is not None and split.inputs.ndim != 4:
            shape = tuple(split.inputs.shape[1:])
            raise InputError(f"the recipe cifar crops and flips images (channels, height, width); the inputs are {shape}")


def _falls_by_ten(step: int, steps: int, epochs: int) -> float:
    """A tenth after 50, 75 and 92 % of the epochs, whole epochs (Li et al. 2018, their train script)."""
    epoch = step * epochs // steps
    return float(0.1 ** sum(epoch >= epochs * k // 12 for k in (6, 9, 11)))


def _warm_up_and_cosine(step: int, steps: int, epochs: int) -> float:
    """Up in a straight line, then down along half a cosine to zero (Loshchilov and Hutter 2017, equation 5, one cycle)."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``PADDING`` pixels, zeros where it ends, and mirror half of them.

    Args:
        images: (n, channels, height, width) on any device.
        generator: CPU generator of the shifts, so that every device draws the same ones.
    """
    count, _, height, width = images.shape
    down, right = (torch.randint(-PADDING, PADDING + 1, (count, 1), generator=generator) for _ in range(2))
    mirrored = torch.rand((count, 1), generator=generator) < 0.5
    columns = torch.arange(width).expand(count, width)
    columns = torch.where(mirrored, width - 1 - columns, columns) + right
    rows = torch.arange(height).expand(count, height) + down
    outside = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    places = (rows.clamp(0, height - 1), columns.clamp(0, width - 1), outside)
    rows, columns, outside = (place.to(images.device, non_blocking=True) for place in places)  # a step waits for nothing
    sample = torch.arange(count, device=images.device)
    shifted = images[sample[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return shifted.masked_fill_(outside[:, None], 0)


def image_scale(epoch: int, epochs: int) -> float:
    """Share of their size that images have in an epoch of a progressive run (Tan and Le 2021, section 4.2)."""
    return next((scale for until, scale in SMALLER if epoch < until * epochs), 1.0)


def resized(images: Tensor, scale: float) -> Tensor:
    """Images at ``scale`` times their height and width, by a triangle filter (bilinear, widened for the fewer pixels).

    Args:
        images: (n, channels, height, width), floating point.
        scale: at most 1.
    """
    if scale == 1:
        return images
    size = [max(1, round(scale * pixels)) for pixels in images.shape[2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=True)


RECIPES = {"li2018": Recipe(_falls_by_ten), "cifar": Recipe(_warm_up_and_cosine, crop_and_flip)}
