"""Reading photographs of a display: the tests of ParaView's window look at these."""

import numpy as np
import pytest
from screens import read_xwd


@pytest.mark.parametrize("bits", [24, 32])
@pytest.mark.parametrize("highest_first", [0, 1])
@pytest.mark.parametrize("red_first", [True, False])
def test_pixels_of_any_size_and_order_come_out_as_rgb(bits, highest_first, red_first, tmp_path):
    """A file written by a plain loop after X11/XWDFile.h, with a table of colors and bytes at the end of each row."""
    width, height, colors, padding = 5, 3, 2, 3
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    masks = (0xFF0000, 0xFF00, 0xFF) if red_first else (0xFF, 0xFF00, 0xFF0000)
    line = width * bits // 8 + padding
    header = [0] * 25
    header[0], header[1], header[2], header[3], header[4], header[5] = 101, 7, 2, 24, width, height
    header[7], header[11], header[12], header[14:17], header[19] = highest_first, bits, line, masks, colors
    data = b"".join(number.to_bytes(4, "big") for number in header) + b"\0" + b"c" * (12 * colors)
    for row in rgb:
        for red, green, blue in row:
            value = sum(int(part) * (mask & -mask) for part, mask in zip((red, green, blue), masks, strict=True))
            data += value.to_bytes(bits // 8, "big" if highest_first else "little")
        data += b"\xaa" * padding
    (tmp_path / "s.xwd").write_bytes(data)
    np.testing.assert_array_equal(read_xwd(tmp_path / "s.xwd"), rgb)
