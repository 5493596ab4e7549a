"""The pictures under the blocks of the guides: python docs/draw.py [PAGE …]

Runs the blocks of each page as they stand, then copies every ``images/PAGE/NAME`` that the page shows from what they made,
at most 900 pixels wide. What a block writes as a PDF is drawn once more as a PNG. About four minutes on two cores.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
GROUPS = (("first-hour",), ("tutorial", "pictures"))
"""Pages; those of one group share a folder, as a reader who goes through them does."""

FENCE = re.compile(r"^(<!-- not run: .*? -->\n)?```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WIDEST = 900
AS_PNG = {
    "contours-of-surface.png": "paraloss render surface.h5 contours-of-surface.png --style contour",
    "contours.png": "paraloss render figure1/model.h5 contours.png --width 3.3in --style contour",
    "curves.png": "paraloss render figure1/model_curve.h5 curves.png --width 3.3in",
}
"""How a picture that a page's block writes as one of several PDFs is drawn alone."""


def run_blocks(page: str, folder: Path) -> list[str]:
    """Run the blocks of a page in ``folder``, less the installation; returns the commands."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MPLBACKEND": "Agg"}
    typed = []
    for skipped, language, rest, code in FENCE.findall((HERE / f"{page}.md").read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', rest)
        if title:
            (folder / title[1]).write_text(code, encoding="utf-8")
        elif not skipped and "pip install" not in code:
            shell = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
            print(f"{page}: {code.splitlines()[0]}", flush=True)
            subprocess.run([*shell, code], cwd=folder, env=environment, check=True, capture_output=True)
            typed += code.replace("\\\n", " ").splitlines()
    return typed


def place(page: str, folder: Path, typed: list[str]) -> None:
    """Copy the pictures that a page shows out of ``folder``."""
    text = (HERE / f"{page}.md").read_text(encoding="utf-8")
    for name in re.findall(rf"\(images/{page}/([\w.-]+)\)", text):
        found = sorted(folder.rglob(name))
        if not found:
            pdf = name.replace(".png", ".pdf")
            again = AS_PNG.get(name) or next(line.partition(" #")[0].replace(pdf, name) for line in typed if f" {pdf}" in line)
            words = again.split()
            if "--style" not in words and "curves" not in name:
                words += ["--style", "contour"]
            subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True, capture_output=True)
            found = [folder / name]
        target = HERE / "images" / page / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".gif"):
            target.write_bytes(found[0].read_bytes())
            continue
        with Image.open(found[0]) as picture:
            picture.thumbnail((WIDEST, WIDEST))
            flat = picture if "A" in picture.getbands() else picture.convert("RGB").quantize(200, dither=Image.Dither.NONE)
            flat.save(target, optimize=True)
        print(f"  {target.relative_to(HERE)}: {target.stat().st_size // 1000} kB", flush=True)


def main() -> None:
    """Draw the pages that are named, or all."""
    wanted = sys.argv[1:]
    for group in GROUPS:
        if wanted and not set(group) & set(wanted):
            continue
        with tempfile.TemporaryDirectory(prefix="paraloss-docs-") as folder:
            for page in group:
                typed = run_blocks(page, Path(folder))
                place(page, Path(folder), typed)


if __name__ == "__main__":
    main()
