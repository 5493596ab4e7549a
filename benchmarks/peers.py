"""What other packages take for the same surface; run in an environment of its own, where they are installed.

    python benchmarks/peers.py MODEL.pt DATA.pt POINTS    # prints a line of JSON

The model is a whole module saved by benchmarks/run.py in the same run, so that the peers get exactly the same.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import time

import torch


def main() -> None:
    model = torch.load(sys.argv[1], weights_only=False).eval()  # written a moment ago by run.py
    data = torch.load(sys.argv[2], weights_only=False)
    side = int(sys.argv[3])
    inputs, targets = data["inputs"], data["targets"]
    torch.set_num_threads(int(data["threads"]))
    rates: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for name, work in (("loss-landscapes", _loss_landscapes), ("landscaper", _landscaper)):
            try:
                began = time.perf_counter()
                work(copy.deepcopy(model), inputs, targets, side)
                rates[name] = side**2 / (time.perf_counter() - began)
            except Exception as error:
                rates[name] = f"{type(error).__name__}: {error}"[:90]
    print(json.dumps(rates))


def _loss_landscapes(model, inputs, targets, side):  # type: ignore[no-untyped-def]
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    metric = Loss(torch.nn.CrossEntropyLoss(), inputs, targets)
    with torch.no_grad():
        loss_landscapes.random_plane(model, metric, distance=1, steps=side, normalization="filter")


def _landscaper(model, inputs, targets, side):  # type: ignore[no-untyped-def]
    from landscaper.compute import compute_loss_landscape

    directions = [[torch.randn_like(p) for p in model.parameters()] for _ in range(2)]

    def loss(network, data):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(network(data[0]), data[1]).item()

    compute_loss_landscape(model, (inputs, targets), directions, loss, steps=side, distance=1, dim=2, device="cpu")


if __name__ == "__main__":
    main()
