"""A graph convolutional network on one whole graph: a sparse matrix, a mask of the nodes that train, a metric of the others."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from judge import assert_right, surface_of, surface_on_ranks
from torch import Tensor, nn


@dataclass
class Graph:
    features: Tensor
    adjacency: Tensor
    labels: Tensor
    trains: Tensor


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, graph):
        hidden = F.relu(graph.adjacency @ self.first(graph.features))
        return graph.adjacency @ self.second(hidden)


def build():
    torch.manual_seed(0)
    return GCN()


def data():
    """A list of batches: of one, the graph."""
    generator = torch.Generator().manual_seed(1)
    edges = torch.randint(0, 30, (2, 80), generator=generator)
    adjacency = torch.sparse_coo_tensor(edges, torch.full((80,), 0.3), (30, 30), check_invariants=True).coalesce()
    features, labels = torch.randn(30, 5, generator=generator), torch.randint(0, 3, (30,), generator=generator)
    return [Graph(features, adjacency, labels, torch.arange(30) < 18)]


def step(model, graph):
    return F.cross_entropy(model(graph)[graph.trains], graph.labels[graph.trains])


def rest(model, graph):
    """(n,) whether each of the other nodes is classified rightly."""
    return (model(graph).argmax(1) == graph.labels)[~graph.trains].double()


def loop(model):
    (graph,) = data()
    return {"train_loss": step(model, graph).item(), "train_rest": rest(model, graph).mean().item()}


def test_a_whole_graph_is_one_batch():
    assert_right(surface_of(build(), None, data(), step=step, metrics=["loss", rest]), build(), loop)


@pytest.mark.slow
def test_a_whole_graph_on_two_ranks(tmp_path):
    options = ("--step", f"{__file__}:step", "--metrics", f"loss,{__file__}:rest")
    assert_right(surface_on_ranks(__file__, tmp_path, *options, model=build()), build(), loop)
