"""A small language model before and after fine-tuning: one basin, seen along most directions and along the worst one.

python examples/language.py runs/language
basis="--weights runs/language/prose.pt --model examples/language.py:transformer --data examples/language.py:texts \\
    --step examples/language.py:next_letters --splits prose,code --x=-1:1:21 --y=-1:1:21"
paraloss compute $basis --generator philox --in-place -o most.h5
paraloss compute $basis --along worst:0.1 --along random -o worst.h5
paraloss render most.h5 worst.h5 basins.png

The text is Python's own help on the language; it learns on with the source code of Python's json package.
"""

import json.decoder
import json.encoder
import sys
from pathlib import Path
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LETTERS, CONTEXT = 128, 48


class Transformer(nn.Module):
    """Predicts each letter from those before it: (n, length) numbers of letters -> (n, length, LETTERS) logits."""

    def __init__(self, width: int = 48, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(LETTERS, width), nn.Embedding(CONTEXT, width)
        for table in (self.letters, self.places):
            nn.init.normal_(table.weight, std=0.1)
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, text: Tensor) -> Tensor:
        length = text.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=text.device).triu(1)
        x = self.letters(text) + self.places(torch.arange(length, device=text.device))
        logits: Tensor = self.blocks(x, mask=later) @ self.letters.weight.T
        return logits


def transformer() -> nn.Module:
    """The model, about 65,000 parameters, without its weights."""
    return Transformer()


def texts() -> dict[str, list[Tensor]]:
    """Up to 128 windows of each text, (n, CONTEXT + 1) letters in batches, of those that are not trained on: every fourth."""
    return {name: list(windows[::4][:128].split(64)) for name, windows in _windows().items()}


def next_letters(model: nn.Module, batch: Tensor) -> tuple[Tensor, int]:
    """Sum of the losses of all letters but the first of each window, and their number."""
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"), batch[:, 1:].numel()


def train(model: nn.Module, windows: Tensor, steps: int, rate: float) -> None:
    """Adam over windows drawn at random, with the rate falling to zero."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        total, count = next_letters(model, windows[torch.randint(len(windows), (32,), generator=generator)])
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()


def main(folder: Path, steps: int = 300) -> None:
    """Train on prose, then on code; write ``prose.pt`` and ``code.pt``, and print the losses on both texts."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model, windows = transformer(), _windows()
    for name, part, rate in (("prose", steps, 3e-3), ("code", steps // 4, 1e-3)):
        held_out = torch.arange(len(windows[name])) % 4 == 0
        train(model, windows[name][~held_out], part, rate)
        torch.save(model.state_dict(), folder / f"{name}.pt")
        with torch.no_grad():
            sums = {split: [next_letters(model, batch) for batch in batches] for split, batches in texts().items()}
        losses = {split: sum(float(total) for total, _ in found) / sum(n for _, n in found) for split, found in sums.items()}
        print(f"{name}.pt:", ", ".join(f"{split} {loss:.3f}" for split, loss in losses.items()))


def _windows() -> dict[str, Tensor]:
    prose = "\n".join(topics[name] for name in sorted(topics))[:300_000]
    code = "\n".join(Path(str(module.__file__)).read_text("utf-8") for module in (json, json.decoder, json.encoder))
    return {"prose": _cut(prose), "code": _cut(code)}


def _cut(text: str) -> Tensor:
    letters = torch.tensor([min(ord(letter), LETTERS - 1) for letter in text])
    return letters.unfold(0, CONTEXT + 1, CONTEXT)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
