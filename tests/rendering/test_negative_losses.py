"""Negative losses, as of flows and Gaussians: every finite point is drawn, and every output says on which scale."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import call, surface_of
from vtkmodules.util.numpy_support import vtk_to_numpy

from paraloss.converters import height_map, to_image, to_structured_grid
from paraloss.converters.composition import compose
from paraloss.converters.scale import ticks_between
from paraloss.converters.volume_composition import compose_volume
from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.surface import Surface


def bowl():
    """6 (x² + y²) - 3 on 21 x 21 points: 145 of them are at or below -0.1."""
    return surface_of(lambda x, y: 6 * (x**2 + y**2) - 3, nx=21, ny=21)


def test_all_points_are_drawn_in_the_order_of_their_losses():
    heights = height_map(bowl())
    assert not heights.blank.any()
    np.testing.assert_allclose(heights.values, np.log(bowl().metric() + 3.1))
    assert heights.note == "heights are ln(loss + 3.1), because losses reach -3"


def test_a_clip_above_the_offset_needs_no_other_scale():
    assert height_map(bowl(), GridOptions(zmin=-0.05)).options.log_offset == 0.1
    assert height_map(bowl(), GridOptions(zmin=-1.0)).options.log_offset == pytest.approx(1.1)
    assert height_map(bowl(), GridOptions(log=False)).note == ""


def test_a_part_of_a_surface_is_drawn_on_the_scale_of_the_whole():
    whole = bowl()
    corner = Surface(whole.x[:4], whole.y[:4], {"train_loss": whole.metric()[:4, :4]}, whole.status[:4, :4])
    part = height_map(corner, width=2.0, ranges={"train_loss": (-3.0, 9.0)})
    np.testing.assert_allclose(part.heights, height_map(whole).heights[:4, :4])


def test_surfaces_in_one_picture_share_one_scale_that_its_title_and_note_name():
    shallow = surface_of(lambda x, y: x**2 + y**2, nx=21, ny=21)
    composition = compose([shallow, bowl()], picture=PictureOptions(contours=5))
    assert {panel.options.log_offset for panel in composition.panels} == {3.1}
    assert composition.note == "heights are ln(loss + 3.1), because losses reach -3"
    assert composition.scale.title == "train loss, ln(loss + 3.1)"
    values = [float(text) for _, text in composition.scale.ticks]
    assert len(values) >= 4 and values == sorted(values) and min(values) < 0 < max(values)
    np.testing.assert_allclose([place for place, _ in composition.scale.ticks], np.log(np.array(values) + 3.1))


def test_colors_by_another_negative_loss_use_the_same_scale():
    surface = bowl()
    other = replace(surface, metrics={**surface.metrics, "test_loss": surface.metric() - 10})
    composition = compose([other], picture=PictureOptions(color_by="test_loss"))
    heights = height_map(other, composition.panels[0].options)
    drawn = vtk_to_numpy(to_structured_grid(other, heights=heights).GetPointData().GetArray(composition.scale.array))
    assert (composition.scale.low, composition.scale.high) == pytest.approx((drawn.min(), drawn.max()))


def test_ticks_of_usual_losses_are_as_before():
    assert [text for _, text in ticks_between(np.log(0.1), np.log(10.1), True)] == ["0.03", "0.1", "0.3", "1", "3", "10"]


def test_a_volume_keeps_its_scale_in_its_file():
    x = np.linspace(-1, 1, 5)
    z, y, x_ = np.meshgrid(x, x, x, indexing="ij")
    values = 6 * (x_**2 + y**2 + z**2) - 3
    volume = Surface(x, x, {"train_loss": values}, np.ones(values.shape, np.uint8), z=x)
    image = to_image(volume)
    drawn = vtk_to_numpy(image.GetPointData().GetScalars())
    assert np.isfinite(drawn).all()
    from paraloss.converters.layout import framed

    picture = PictureOptions(style="iso")
    assert compose_volume(image, picture, framed((200, 200), picture, [""])).scale.title == "train loss, ln(loss + 3.1)"


def test_analyze_counts_one_minimum_and_names_the_scale(tmp_path):
    bowl().save(tmp_path / "s.h5")
    report = json.loads(call("analyze", "s.h5", "--json", cwd=tmp_path).stdout)
    assert report["surfaces"]["s.h5"]["minima"] == 1
    assert report["heights"] == {"s.h5": "heights are ln(loss + 3.1), because losses reach -3"}
    assert "because losses reach -3" in call("analyze", "s.h5", cwd=tmp_path).stdout


def test_a_ratio_of_negative_losses_is_a_difference_of_their_heights():
    one, other = bowl(), surface_of(lambda x, y: x**2 + y**2 - 1, nx=21, ny=21)
    ratio = one.ratio(other).metrics["train_loss_ratio"]
    np.testing.assert_allclose(np.log(ratio), np.log(one.metric() + 3.1) - np.log(other.metric() + 3.1), atol=1e-12)


def test_curves_keep_negative_losses_on_their_axis(tmp_path, monkeypatch):
    import matplotlib.figure

    from paraloss.rendering import render

    x = np.linspace(-1, 1, 9)
    curve = Surface(x, None, {"train_loss": 6 * x**2 - 3}, np.ones(9, np.uint8))
    scales = []
    save = matplotlib.figure.Figure.savefig

    def spy(figure, *given, **options):
        scales.append(figure.axes[0].get_yscale())
        save(figure, *given, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
    render([curve], tmp_path / "c.png")
    assert scales == ["symlog"]


def test_pictures_and_pages_of_negative_losses_are_made(tmp_path):
    bowl().save(tmp_path / "s.h5")
    done = call("render", "s.h5", "c.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert call("render", "s.h5", "p.html", cwd=tmp_path).returncode == 0
    text = (tmp_path / "p.html").read_text()
    assert "because losses reach -3" in text
    assert re.search(r'"offset": 3\.1\b', text)
    for target in ("c.svg", "p.html"):
        assert call("render", "s.h5", target, cwd=tmp_path).returncode == 0  # its own, replaced
        (tmp_path / target).write_text("the user's own")
        assert call("render", "s.h5", target, cwd=tmp_path).returncode == 2
        assert (tmp_path / target).read_text() == "the user's own"
        assert call("render", "s.h5", target, "--overwrite", cwd=tmp_path).returncode == 0
