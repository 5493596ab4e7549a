"""Photographs of a virtual display: what ``xwd -root`` writes, as an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_xwd(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB of an ``xwd`` file with 24 or 32 bits a pixel, in either order of bytes.

    Source: X11/XWDFile.h; its header is of big-endian 32-bit numbers, the pixels' order of bytes is one of them.
    """
    raw = path.read_bytes()
    header = np.frombuffer(raw[:100], ">u4").astype(int)
    size, width, height, first_is_highest = header[0], header[4], header[5], header[7]
    bits, line, masks, colors = header[11], header[12], header[14:17], header[19]
    assert bits in (24, 32), f"{bits} bits a pixel"
    start, step = size + 12 * colors, bits // 8
    rows = np.frombuffer(raw[start : start + line * height], np.uint8).reshape(height, line)
    pixels = rows[:, : width * step].reshape(height, width, step)
    places = [int(mask).bit_length() // 8 - 1 for mask in masks]  # of red, green and blue, counted from the lowest byte
    return pixels[..., [step - 1 - place if first_is_highest else place for place in places]]
