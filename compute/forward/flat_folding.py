"""All batch norms of a model folded at once, from flat buffers: a dozen kernels where a fold of each alone takes hundreds.

On a GPU a kernel of a few microseconds costs its launch. See ``folding`` for the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

_ALIGNED = 256  # bytes


class FlatFold:
    """The folded weights and biases of layers as views of two buffers, computed from the layers' own all together.

    Args:
        pairs: (layer, batch norm, stand-in) of each fold, all tensors of one type and on one device. The stand-ins' weights
            and biases become views of the buffers, weights of images in channels_last.
        dtype: type of the buffers; what is folded in the layers' own type is rounded to it once.
    """

    def __init__(self, pairs: Sequence[tuple[Any, Any, Any]], dtype: torch.dtype) -> None:
        self._pairs = list(pairs)
        weights = [layer.weight for layer, _, _ in pairs]
        like, unit = weights[0], _ALIGNED // dtype.itemsize
        pads = [-weight.numel() % unit for weight in weights]
        self._pads = [like.new_zeros(pad) for pad in pads]
        channels = [len(weight) for weight in weights]
        # Which channel each number of the buffer belongs to; what pads it belongs to any.
        fans: list[int] = []
        for weight, pad in zip(weights, pads, strict=True):
            fans += [weight[0].numel()] * len(weight)
            fans[-1] += pad
        self._channel = torch.repeat_interleave(torch.arange(sum(channels)), torch.tensor(fans)).to(like.device)
        self._weight = torch.zeros(len(self._channel), dtype=dtype, device=like.device)
        starts = [0]
        for channel in channels:
            starts.append(starts[-1] + -(-channel // unit) * unit)
        place = torch.cat([torch.arange(start, start + n) for start, n in zip(starts, channels, strict=False)])
        self._bias_place = place.to(like.device)
        self._bias = torch.zeros(starts[-1], dtype=dtype, device=like.device)
        self._eps = torch.cat([torch.full_like(norm.running_var, norm.eps) for _, norm, _ in pairs])
        self._ones, self._zeros = ([like.new_full((n,), value) for n in channels] for value in (1.0, 0.0))
        self._biased = any(layer.bias is not None for layer, _, _ in pairs)
        at = 0
        for (_, _, stand_in), weight, pad, start in zip(pairs, weights, pads, starts, strict=False):
            stand_in.weight.data = _as_weight(self._weight[at : at + weight.numel()], weight)
            stand_in.bias.data = self._bias[start : start + len(weight)]
            at += weight.numel() + pad

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the folded weights up to date with the model's own."""
        columns = torch.cat([part for column in self._columns() for part in column]).view(-1, len(self._eps))
        gamma, variance, mean, beta = columns[:4]
        scale = torch.rsqrt(variance + self._eps) * gamma
        bias = torch.addcmul(beta, columns[4] - mean if self._biased else mean, scale, value=1 if self._biased else -1)
        flat = zip((_flat(layer.weight) for layer, _, _ in self._pairs), self._pads, strict=True)
        torch.mul(torch.cat([part for pair in flat for part in pair]), scale[self._channel], out=self._weight)
        self._bias[self._bias_place] = bias.to(self._bias.dtype)

    def _columns(self) -> Iterator[Sequence[Tensor]]:
        """Of all channels: the scale, the variance, the mean and the shift of their norms; their layers' biases, if any."""
        norms = [norm for _, norm, _ in self._pairs]
        yield _or(self._ones, [norm.weight for norm in norms])
        yield [norm.running_var for norm in norms]
        yield [norm.running_mean for norm in norms]
        yield _or(self._zeros, [norm.bias for norm in norms])
        if self._biased:
            yield _or(self._zeros, [layer.bias for layer, _, _ in self._pairs])


def _or(default: Sequence[Tensor], found: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """``found``, with ``default`` where it is None."""
    return [other if tensor is None else tensor for tensor, other in zip(found, default, strict=True)]


def _flat(weight: Tensor) -> Tensor:
    """The numbers of a weight in the order of the buffer: as they lie where an image's weight is in channels_last."""
    return (weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight).reshape(-1)


def _as_weight(flat: Tensor, weight: Tensor) -> Tensor:
    if weight.ndim != 4:
        return flat.view(weight.shape)
    outputs, inputs, height, width = weight.shape
    return flat.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
