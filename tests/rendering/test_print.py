"""Figures at their width in print: page size, fonts and sizes of letters as the PDF has them, dots as the PNG has them."""

import itertools

import numpy as np
import pytest
import torch
from helpers import call, surface_of
from matplotlib import image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pdfs import read_pdf
from PIL import Image

from paraloss import Surface, render
from paraloss.compute.inputs.checkpoints import save_content
from paraloss.errors import InputError
from paraloss.picture_options import GridOptions
from paraloss.print_size import VENUES, print_size
from paraloss.rendering.curve import curve_figure
from paraloss.rendering.figures import drawing, figure_size


def bowl(x, y):
    return 0.1 + x**2 + 2 * y**2


def path_to(x, y):
    t = np.linspace(0, 1, 6)
    return {"x": -0.8 + (x + 0.8) * t, "y": -0.7 + (y + 0.7) * t, "loss": t, "step": t, "residual": t}


def curve():
    x = np.linspace(-1, 1, 21)
    metrics = {"train_loss": 0.1 + x**2, "train_acc": 90 - 20 * x**2}
    return Surface(x, None, metrics, np.ones(21, np.uint8))


def surfaces():
    one = surface_of(bowl, 21, 21)
    return {"one": [one], "two": [one, one], "paths": [one.with_paths({"SGD": path_to(0.5, 0.4), "Adam": path_to(0.1, 0.8)})]}


@pytest.mark.parametrize("what", ["one", "two", "paths", "curve"])
@pytest.mark.parametrize("style", ["contour", "filled"])
def test_a_pdf_has_its_width_and_letters_of_7_to_8_points(tmp_path, what, style):
    given = [curve()] if what == "curve" else surfaces()[what]
    render(given, tmp_path / "p.pdf", width="3.3in", **({} if what == "curve" else {"style": style}))
    width, height, kinds, sizes = read_pdf(tmp_path / "p.pdf")
    assert width == pytest.approx(3.3, abs=1e-3) and 1 < height < 4
    assert "Type3" not in kinds and "Type42" not in kinds and "CIDFontType2" in kinds  # TrueType, embedded
    assert sizes and min(sizes) >= 7 and max(sizes) <= 8


@pytest.mark.parametrize("width", ["2.4in", "3.25in", "5.5in"])
@pytest.mark.parametrize("lowest", [0.2, 0.0007])
def test_long_entries_stay_within_a_figure_of_curves_and_its_numbers_apart(width, lowest):
    """The legend as wide as two networks with their accuracies make it; losses over two powers of ten and over five."""
    x = np.linspace(-1, 1, 21)
    metrics = {"train_loss": lowest + 27 * x**2, "train_acc": 90 - 20 * x**2}
    curves = [Surface(x, None, metrics, np.ones(21, np.uint8))] * 2
    labels = ["resnet56, test accuracy 89.3 %", "resnet56_noshort, test accuracy 71.5 %"]
    printed = print_size(width)
    with drawing(printed) as letters:
        figure = curve_figure(curves, labels, GridOptions(), letters, *figure_size((1600, 1000), None, printed))
        FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0
    words = " ".join(text.get_text() for text in legend.get_texts()).split()
    assert words == " ".join(f"{label}, train {kind}" for kind in ("loss", "acc") for label in labels).split()
    axis = figure.axes[0].yaxis
    ticks = [text for text in (*axis.get_majorticklabels(), *axis.get_minorticklabels()) if text.get_text()]
    places = sorted((text.get_window_extent() for text in ticks if _inside(figure.axes[0], text)), key=lambda place: place.y0)
    assert len(places) >= 2
    assert all(above.y0 >= below.y1 - 1 for below, above in itertools.pairwise(places))


def _inside(axes, text):
    low, high = axes.get_ylim()
    return low <= text.get_position()[1] <= high


def test_every_pdf_embeds_truetype(tmp_path):
    render(surfaces()["one"], tmp_path / "p.pdf")
    assert "Type3" not in read_pdf(tmp_path / "p.pdf")[2]


@pytest.mark.parametrize(
    ("name", "inches", "text"), [("icml", 3.25, 8), ("neurips", 5.5, 8), ("ieee", 3.5, 8), ("slides", 10, 16)]
)
def test_venues_have_their_widths(tmp_path, name, inches, text):
    render([curve()], tmp_path / "c.pdf", width=name)
    width, _, _, sizes = read_pdf(tmp_path / "c.pdf")
    assert width == pytest.approx(inches, abs=1e-3) and min(sizes) >= text - 1 and max(sizes) == text


def test_a_lit_picture_has_dots_for_its_width_and_letters_in_points(tmp_path):
    render(surfaces()["paths"], tmp_path / "l.png", width="84mm", axes=True, contours=4)
    with Image.open(tmp_path / "l.png") as picture:
        assert picture.size[0] == round(84 / 25.4 * 300)
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    from paraloss.converters.composition import compose
    from paraloss.picture_options import PictureOptions
    from paraloss.rendering.frame import Frame
    from paraloss.rendering.picture import _layout

    picture = PictureOptions(axes=True)
    layout = _layout(None, print_size("84mm"), picture, ["a title"])
    frame = Frame(compose(surfaces()["paths"], picture=picture, labels=["a title"], layout=layout))
    frame.add_note("a note")
    axes = frame.figure.axes[0]
    letters = [*frame.figure.texts, *axes.get_yticklabels(), axes._left_title]
    for text in letters:  # the figure has 100 dots per inch, the paper 300
        assert 7 - 1e-6 <= text.get_fontsize() * 100 / 300 <= 9.5, text.get_text()


def test_the_command_line_prints_the_line_for_latex(tmp_path):
    surfaces()["one"][0].save(tmp_path / "s.h5")
    done = call("render", tmp_path / "s.h5", tmp_path / "s.pdf", "--width", "84mm")
    assert done.returncode == 0 and r"\includegraphics[width=84mm]{s.pdf}" in done.stderr
    assert read_pdf(tmp_path / "s.pdf")[0] == pytest.approx(84 / 25.4, abs=1e-3)
    done = call("render", tmp_path / "s.h5", tmp_path / "i.png", "--style", "contour", "--for", "ieee")
    assert r"\includegraphics[width=3.5in]{i.png}" in done.stderr
    assert image.imread(tmp_path / "i.png").shape[1] == 1050
    save_content(tmp_path / "w.pt", {"fc.weight": torch.randn(20, 20)})
    done = call("histogram", tmp_path / "w.pt", tmp_path / "w.pdf", "--for", "icml")
    assert done.returncode == 0 and r"width=3.25in" in done.stderr
    width, _, kinds, sizes = read_pdf(tmp_path / "w.pdf")
    assert width == pytest.approx(3.25, abs=1e-3) and "Type3" not in kinds and min(sizes) >= 7


@pytest.mark.parametrize("text", ["3.3", "0in", "3 furlongs", "-3in", "1e9in", "nan in", "100in"])
def test_a_width_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="give a length of 1 to 60 inches"):
        print_size(text)
    assert print_size("240pt").width == pytest.approx(240 / 72.27) and print_size("ICML") is VENUES["icml"]


def test_width_is_instead_of_size_and_for_pictures(tmp_path):
    with pytest.raises(InputError, match="instead of"):
        render([curve()], tmp_path / "c.pdf", width="3in", size=(300, 200))
    surfaces()["one"][0].save(tmp_path / "s.h5")
    for more in (["--size", "300x200"], ["--for", "icml"]):
        done = call("render", tmp_path / "s.h5", tmp_path / "s.pdf", "--width", "3in", *more)
        assert done.returncode == 2 and "give one of --width, --for and --size" in done.stderr
