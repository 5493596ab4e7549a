"""Normal numbers from a counter: any part of a tensor's numbers, in any order, the same to the bit wherever they are made.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a counter of four words and a key of two
into four random words; Box and Muller's transform makes four normal numbers of these. All is done by integer operations and
by sums, products, quotients and square roots in float32, each rounded by itself as IEEE 754 has it: logarithm, sine and
cosine are polynomials here, because those of a library differ from device to device in the last bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_ROUNDS = 10
_SQRT_HALF = 0x3F3504F3  # bits of the float32 below which a mantissa is doubled, so that it lies around 1
_LOG = (2 / 3, 2 / 5, 2 / 7, 2 / 9)  # ln m = 2s + s³ (2/3 + 2/5 s² + …), s = (m - 1) / (m + 1)
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(6))  # sin a / a by a², to 6e-8 for |a| <= pi / 2
_COSINE = tuple((-1) ** k / math.factorial(2 * k) for k in range(7))

Counter = tuple[Tensor | int, Tensor | int, int, int]


def philox(counter: Counter, key: tuple[int, int]) -> list[Tensor]:
    """Philox4x32-10.

    Args:
        counter: four words of 32 bits, in int64; tensors that broadcast, or numbers. The first must be a tensor.
        key: two words of 32 bits.

    Returns:
        Four int64 tensors of random words, 0 to 2**32 - 1, of the shape that ``counter`` broadcasts to.
    """
    c0, c1, c2, c3 = (torch.as_tensor(word, dtype=torch.int64, device=counter[0].device) for word in counter)  # type: ignore[union-attr]
    k0, k1 = key
    for _ in range(_ROUNDS):
        # A product modulo 2**64 has the right 64 bits; what an arithmetic shift leaves above 32 bits is cut off before use.
        first, second = (c0 & _WORD) * _MULTIPLIERS[0], (c2 & _WORD) * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (second >> 32) ^ (c1 ^ k0), second, (first >> 32) ^ (c3 ^ k1), first
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return [word & _WORD for word in torch.broadcast_tensors(c0, c1, c2, c3)]


def normals(
    seed: int, stream: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """Make a rectangle of an endless table of independent standard normal numbers.

    Args:
        seed: 64 bits that choose the table, together with ``stream``; negative seeds count as two's complement.
        stream: two words of 32 bits, such as a hash of a tensor's name.
        rows: first row, and the row after the last; below 2**32.
        columns: first column, and the column after the last; below 2**34.
        device: where to make them; the numbers do not depend on it.

    Returns:
        (rows, columns) float32.
    """
    first, last = columns[0] // 4, -(-columns[1] // 4)
    blocks = torch.arange(first, last, dtype=torch.int64, device=device)
    lines = torch.arange(rows[0], rows[1], dtype=torch.int64, device=device)[:, None]
    words = philox((blocks, lines, *stream), (seed & _WORD, seed >> 32 & _WORD))
    pairs = (*_box_muller(words[0], words[1]), *_box_muller(words[2], words[3]))
    table = torch.stack(pairs, dim=-1).reshape(len(lines), -1)
    return table[:, columns[0] - 4 * first : columns[1] - 4 * first]


def _box_muller(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Two normal numbers of two random words: plus or minus sqrt(-2 ln u), times cosine and sine of half a turn's angle."""
    radius = _minus_two_log(one).sqrt_().mul_((1 - (other >> 30 & 2)).to(torch.float32))
    angle = ((other & 0x7FFFFFFF) - 0x40000000).to(torch.float32).mul_(math.pi / 2**31)
    square = angle * angle
    return _polynomial(_COSINE, square).mul_(radius), _polynomial(_SINE, square).mul_(angle).mul_(radius)


def _minus_two_log(word: Tensor) -> Tensor:
    """-2 ln((word + 1) / 2**32) in float32."""
    bits = (word + 1).to(torch.float32).view(torch.int32) - _SQRT_HALF
    exponent = (32 - (bits >> 23)).to(torch.float32)
    mantissa = ((bits & 0x7FFFFF) + _SQRT_HALF).view(torch.float32)
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    log = _polynomial(_LOG, square).mul_(square).mul_(s).add_(s).add_(s)
    return exponent.mul_(2 * math.log(2)).sub_(log).sub_(log)


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Horner's rule, lowest coefficient first, each step rounded by itself."""
    value = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        value.add_(coefficient).mul_(x)
    return value.add_(coefficients[0])
