"""LeNet with ``view`` behind the convolutions, class weights in the loss, as thousands of tutorials have it."""

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import nn


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3)
        self.fc1, self.fc2 = nn.Linear(8 * 2 * 2, 12), nn.Linear(12, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.view(-1, 32))))


def build():
    torch.manual_seed(0)
    model = LeNet()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(60, 1, 16, 16, generator=generator), torch.randint(0, 4, (60,), generator=generator)


loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 9.0]))


def loop(model):
    inputs, targets = data()
    outputs = model(inputs)
    accuracy = 100 * (outputs.argmax(1) == targets).double().mean()
    return {"train_loss": loss(outputs, targets).item(), "train_acc": accuracy.item()}


def test_lenet_has_the_losses_of_a_plain_loop():
    assert_right(surface_of(build(), loss, data(), batch_size=16), build(), loop)


@pytest.mark.slow
def test_lenet_on_two_ranks(tmp_path):
    surface = surface_on_ranks(__file__, tmp_path, "--loss", f"{__file__}:loss", "--batch-size=16", model=build())
    assert_right(surface, build(), loop)
