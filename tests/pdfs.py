"""What a PDF says about itself: size, fonts, letters."""

import re
import zlib


def read_pdf(path):
    """Page size in inches, kinds of fonts, and the sizes of all text on the page in points."""
    raw = path.read_bytes()
    box = [float(number) for number in re.search(rb"/MediaBox \[([^\]]*)\]", raw)[1].split()]
    sizes = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", raw, re.S):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        if b" Tf" in content:
            assert b" cm\n" not in content or not re.search(rb"BT.*? cm", content)  # text is not scaled afterwards
            sizes += [float(size) for size in re.findall(rb"/\S+ ([\d.]+) Tf", content)]
    kinds = set(re.findall(rb"/Subtype /(Type\w+|CIDFont\w+|TrueType)", raw))
    return (box[2] - box[0]) / 72, (box[3] - box[1]) / 72, {kind.decode() for kind in kinds}, sizes
