"""A vision transformer: a class token, a learned place of every patch, layer norms, attention."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, width=24, heads=2, classes=5):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.cls_token, self.places = nn.Parameter(0.1 * torch.randn(1, 1, width)), nn.Parameter(0.1 * torch.randn(1, 5, width))
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


def build():
    torch.manual_seed(0)
    return VisionTransformer()


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 3, 16, 16, generator=generator), torch.randint(0, 5, (20,), generator=generator)


def loop(model):
    inputs, targets = data()
    outputs = torch.cat([model(part) for part in inputs.split(7)])
    accuracy = 100 * (outputs.argmax(1) == targets).double().mean()
    return {"train_loss": F.cross_entropy(outputs, targets, label_smoothing=0.1).item(), "train_acc": accuracy.item()}


loss = nn.CrossEntropyLoss(label_smoothing=0.1)


def test_a_vision_transformer_has_the_losses_of_a_plain_loop():
    assert_right(surface_of(build(), loss, data(), batch_size=8), build(), loop)


@pytest.mark.slow
def test_a_vision_transformer_on_two_ranks(tmp_path):
    surface = surface_on_ranks(__file__, tmp_path, "--loss", f"{__file__}:loss", "--split-data=2", model=build())
    assert_right(surface, build(), loop)
