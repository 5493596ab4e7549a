"""An autoencoder on the handwritten digits and two criteria: nothing here is tied to classification.

paraloss train --model examples/autoencoder.py:autoencoder --data examples/autoencoder.py:images \\
    --loss mse --lr 0.5 --epochs 40 -o runs/autoencoder
paraloss compute --weights runs/autoencoder/final.pt --x=-1:1:41 --y=-1:1:41 -o squared.h5
paraloss compute --weights runs/autoencoder/final.pt --x=-1:1:41 --y=-1:1:41 --loss examples/autoencoder.py:focal -o focal.h5
paraloss render squared.h5 focal.h5 two_losses.png
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


def autoencoder(hidden: int = 64, code: int = 12) -> nn.Module:
    """64 pixels -> ``code`` numbers -> 64 pixels."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, hidden),
        nn.ELU(),
        nn.Linear(hidden, code),
        nn.ELU(),
        nn.Linear(code, hidden),
        nn.ELU(),
        nn.Linear(hidden, 64),
        nn.Unflatten(1, (1, 8, 8)),
    )


def images() -> dict[str, tuple[Tensor, Tensor]]:
    """The digits as inputs and as targets, pixels between 0 and 1; every fifth image is for testing."""
    pixels = torch.from_numpy(load_digits().images).float()[:, None] / 16
    test = torch.arange(len(pixels)) % 5 == 0
    return {"train": (pixels[~test], pixels[~test]), "test": (pixels[test], pixels[test])}


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    """(n,) focal frequency loss: the spectrum's squared error, each frequency weighted by its own error.

    Source: Jiang et al. 2021, "Focal frequency loss for image reconstruction and synthesis" (arXiv 2012.12821), alpha = 1.
    """
    difference = torch.fft.fft2(outputs - targets, norm="ortho").abs()
    weight = difference / difference.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    return (weight * difference.square()).flatten(1).mean(dim=1)
