"""Pictures compared with those that were looked at; what differs is laid side by side in a page."""

from __future__ import annotations

import html
import os
import shutil
from pathlib import Path

import numpy as np
from matplotlib import image
from skimage.metrics import structural_similarity

REPORT = Path(os.environ.get("PARALOSS_PICTURES", Path(__file__).resolve().parents[1] / "build" / "pictures"))
ALIKE = 0.97  # another build of the software renderer moves edges by a part of a pixel
MEAN = 0.01


def assert_alike(drawn: Path, kept: Path, name: str, report: Path = REPORT) -> None:
    """Compare two pictures; where they differ write now, then and their difference into ``report``.

    Args:
        drawn: picture of this run.
        kept: picture that was looked at and committed.
        name: title of the comparison, a folder's name.
        report: folder with an ``index.html`` of all comparisons that failed; one that succeeds is taken out of it.

    Raises:
        AssertionError: sizes differ, or more than ``ALIKE`` and ``MEAN`` allow; the message names the page.
    """
    now, then = (image.imread(path)[..., :3] for path in (drawn, kept))
    folder = report / name
    shutil.rmtree(folder, ignore_errors=True)
    if now.shape != then.shape:
        what = f"is {now.shape[1]}×{now.shape[0]} pixels, {then.shape[1]}×{then.shape[0]} before"
        difference = None
    else:
        likeness = structural_similarity(now, then, channel_axis=-1, data_range=1.0)
        difference = np.abs(now - then)
        if likeness > ALIKE and difference.mean() < MEAN:
            if report.is_dir():
                _write_index(report)
            return
        what = f"likeness {likeness:.4f} (above {ALIKE}), mean difference {difference.mean():.4f} (below {MEAN})"
    folder.mkdir(parents=True)
    shutil.copy(drawn, folder / "now.png")
    shutil.copy(kept, folder / "then.png")
    if difference is not None:
        image.imsave(folder / "difference.png", np.clip(4 * difference, 0, 1))
    (folder / "what.txt").write_text(what)
    _write_index(report)
    raise AssertionError(f"{name}: {what}; see {report / 'index.html'}")


def _write_index(report: Path) -> None:
    rows = []
    for what in sorted(report.glob("*/what.txt")):
        name = html.escape(what.parent.name)
        pictures = "".join(
            f'<figure><img src="{name}/{kind}.png" alt="{kind}"><figcaption>{kind}</figcaption></figure>'
            for kind in ("now", "then", "difference")
            if (what.parent / f"{kind}.png").exists()
        )
        rows.append(f"<h2>{name}</h2><p>{html.escape(what.read_text())}</p><div>{pictures}</div>")
    style = "body{font:16px sans-serif} div{display:flex} figure{margin:4px;flex:1} img{width:100%}"
    text = "".join(rows) or "<p>All pictures are as they were.</p>"
    page = f'<!doctype html><meta charset="utf-8"><title>Pictures that changed</title><style>{style}</style>{text}'
    temporary = report / f".index.{os.getpid()}.html"  # the tests run in several processes
    temporary.write_text(page)
    temporary.replace(report / "index.html")
