"""One composition, drawn by pyvista, ParaView, the page and matplotlib: what each really uses, against plain formulas."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from browsing import opened_page
from helpers import call, needs_paraview, surface_of
from matplotlib import image
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from paraloss import Surface, render
from paraloss.converters.composition import compose
from paraloss.converters.composition_json import from_json, to_json
from paraloss.converters.layout import framed
from paraloss.errors import InputError
from paraloss.look import CAMERAS, LOOKS
from paraloss.picture_options import GridOptions, PictureOptions
from paraloss.rendering import make_movie, write_page
from paraloss.rendering.contour import draw_contours
from paraloss.rendering.surface_picture import SurfacePicture

ZMAX, LINES, VIEW, LOOK = 6.0, 5, "corner", "dark"
OPTIONS = GridOptions(zmax=ZMAX)
PICTURE = PictureOptions(view=VIEW, look=LOOK, contours=LINES)


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)


def wavy(x, y):
    return 0.3 + 5 * x**2 + 3 * y**2 + 0.4 * np.sin(5 * x)


def pair():
    return [surface_of(wavy, 21, 17), surface_of(lambda x, y: 2 * wavy(x, y) + 0.2, 21, 17)]


def composition_of(surfaces):
    return compose(surfaces, OPTIONS, PICTURE, ["a", "b"], framed((640, 300), PICTURE, ["a", "b"]))


def expected(surfaces):
    """Range, levels, view direction and lights by plain formulas."""
    drawn = [np.log(min(value, ZMAX) + 0.1) for surface in surfaces for value in surface.metric().ravel()]
    low, high = min(drawn), max(drawn)
    levels = [np.exp(low + k * (high - low) / (LINES + 1)) - 0.1 for k in range(1, LINES + 1)]
    lights = [(unit(light.position), np.array(light.color) * light.intensity) for light in LOOKS[LOOK].lights]
    return low, high, levels, unit(CAMERAS[VIEW].position), lights


def unit(vector):
    return np.array(vector, float) / np.linalg.norm(vector)


def check(surfaces, ends, levels, ticks, direction=None, lights=None, atol=1e-9, bytes_of_color=False):
    low, high, right_levels, right_direction, right_lights = expected(surfaces)
    np.testing.assert_allclose(ends, [low, high], atol=atol)
    np.testing.assert_allclose(levels, right_levels, rtol=1e-5)
    assert 3 <= len(ticks) <= 8
    for place, text in ticks:
        assert place == pytest.approx(np.log(float(text) + 0.1), abs=max(atol, 1e-9))
        assert low - atol <= place <= high + atol
    if direction is not None:
        np.testing.assert_allclose(unit(direction), right_direction, atol=1e-5)
    if lights is not None:
        assert len(lights) == len(right_lights)
        for (towards, color), (right_towards, right_color) in zip(lights, right_lights, strict=True):
            np.testing.assert_allclose(unit(towards), right_towards, atol=1e-5)
            np.testing.assert_allclose(color, right_color, atol=1 / 255 if bytes_of_color else 1e-5)
    return [text for _, text in ticks]


def ticks_of_composition():
    return [text for _, text in composition_of(pair()).scale.ticks]


def test_pyvista_uses_the_composition():
    surfaces = pair()
    composition = composition_of(surfaces)
    picture = SurfacePicture(surfaces, composition)
    bar = picture._frame().figure.axes[0]
    ticks = list(zip(bar.get_yticks(), [label.get_text() for label in bar.get_yticklabels()], strict=True))
    assert [text for _, text in ticks] == ticks_of_composition()
    for plotter in picture._plotters():
        from paraloss.rendering.plotter import aim

        aim(plotter, composition.camera)
        meshes = [actor.mapper for actor in plotter.renderer.actors.values()]
        sheet = next(mapper for mapper in meshes if mapper.scalar_visibility)
        lines = next(mapper.dataset for mapper in meshes if "level" in mapper.dataset.point_data)
        levels = sorted(set(np.round(lines["level"], 4)))
        lights = [
            (np.subtract(light.position, light.focal_point), np.array(light.diffuse_color.float_rgb) * light.intensity)
            for light in plotter.renderer.lights
        ]
        camera = plotter.camera
        direction = np.subtract(camera.position, camera.focal_point)
        right = expected(surfaces)[2]
        drawn = [min(right, key=lambda one, level=level: abs(one - level)) for level in levels]  # each surface has some of them
        np.testing.assert_allclose(levels, drawn, rtol=1e-3)
        check(surfaces, sheet.scalar_range, right, ticks, direction, lights, bytes_of_color=True)  # pyvista rounds them
        plotter.close()


def test_matplotlib_uses_the_composition(tmp_path, monkeypatch):
    surfaces, figures = pair(), []
    composition = composition_of(surfaces)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *arguments, **options: figures.append(figure))
    draw_contours(surfaces, tmp_path / "s.png", replace(composition, picture=replace(PICTURE, style="filled")))
    panels, bar = figures[0].axes[:2], figures[0].axes[-1]
    ticks = list(zip(bar.get_yticks(), [label.get_text() for label in bar.get_yticklabels()], strict=True))
    for panel in panels:
        areas, lines = [child for child in panel.get_children() if isinstance(child, QuadContourSet)]
        texts = check(surfaces, [areas.levels[0], areas.levels[-1]], np.exp(lines.levels) - 0.1, ticks)
    assert texts == ticks_of_composition()


USED = """() => {
  const {eye, aim} = camera(), bar = $("bar"), tall = bar.clientHeight - 22, [low, high] = colorEnds;
  const get = name => gl.getUniform(surfaceProgram, at(surfaceProgram, name));
  const place = tick => low + (1 - (parseFloat(tick.style.top) - 22) / tall) * (high - low);
  const lights = data.looks[state.look].lights.map((_, k) => [get(`lightAt[${k}]`), get(`lightColor[${k}]`)]);
  return {
    ends: [low, high],
    heights: Array.from(ends),
    lines: get("contours"),
    ticks: Array.from(bar.querySelectorAll(".tick")).map(tick => [place(tick), tick.textContent]),
    direction: eye.map((v, k) => v - aim[k]),
    lights: lights.map(light => light.map(v => Array.from(v))),
  };
}"""


@pytest.mark.slow
def test_the_page_uses_the_composition(browser, tmp_path):
    surfaces = pair()
    path = write_page(surfaces, tmp_path / "s.html", ["a", "b"], OPTIONS, PICTURE)
    page = opened_page(browser, f"file://{path}")
    used = page.evaluate(USED)
    assert page.complaints == []
    page.locator("#clip").fill("0.5")  # the reader's own choices still count
    moved = page.evaluate("() => Array.from(colorEnds)")
    low, high = used["heights"]
    levels = [np.exp(low + k * (high - low) / (used["lines"] + 1)) - 0.1 for k in range(1, int(used["lines"]) + 1)]
    texts = check(surfaces, used["ends"], levels, used["ticks"], used["direction"], used["lights"], atol=1e-3)
    assert texts == ticks_of_composition()
    assert moved[1] < used["ends"][1] - 0.1


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import scene
from paraloss.converters.composition_json import from_json
from paraloss.picture_options import GridOptions, PictureOptions
from paraview import servermanager, simple
from vtkmodules.util.numpy_support import vtk_to_numpy
files = sys.argv[3:]
how = json.loads(sys.argv[2])
if "file" in how:
    wanted = scene.Wanted(composition=from_json(open(how["file"]).read()))
else:
    wanted = scene.Wanted(GridOptions(**how["heights"]), PictureOptions(**how["picture"], trajectory=False), (640, 300))
drawn = scene.draw("side_by_side", files, wanted)
simple.RenderAllViews()
table = simple.GetColorTransferFunction("log_train_loss")
lines = [s for s in simple.GetSources().values() if s.GetXMLName() == "SurfaceContours"]
views = []
for view, source in zip(drawn.views, drawn.sources):
    lights = []
    for light in view.AdditionalLights:
        towards = [a - b for a, b in zip(light.Position, light.FocalPoint)]
        lights.append([towards, [c * light.Intensity for c in light.DiffuseColor]])
    direction = [a - b for a, b in zip(view.CameraPosition, view.CameraFocalPoint)]
    source.UpdatePipeline()
    views.append(dict(lights=lights, direction=direction, bounds=source.GetDataInformation().GetBounds()))
print("RESULT" + json.dumps(dict(
    ends=[table.RGBPoints[0], table.RGBPoints[-4]], annotations=list(table.Annotations), views=views,
    levels=[[float(w) for w in line.Levels.split()] for line in lines],
)))
"""


@pytest.mark.paraview
@pytest.mark.parametrize("how", ["json", "options"])
def test_paraview_uses_the_composition(how, tmp_path):
    from pathlib import Path

    from helpers import under_display

    needs_paraview()
    surfaces = pair()
    composition = composition_of(surfaces)
    files = [str(surface.save(tmp_path / f"{k}.h5")) for k, surface in enumerate(surfaces)]
    (tmp_path / "c.json").write_text(to_json(composition))
    (tmp_path / "script.py").write_text(SCRIPT)
    states = Path(__file__).resolve().parents[2] / "state_files"
    asked = {"heights": {"zmax": ZMAX}, "picture": {"view": VIEW, "look": LOOK, "contours": LINES}}
    wanted = {"file": str(tmp_path / "c.json")} if how == "json" else asked
    done = under_display(["pvpython", str(tmp_path / "script.py"), str(states), json.dumps(wanted), *files])
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT")), None)
    assert line, done.stdout + done.stderr
    used = json.loads(line[6:])
    places, texts = used["annotations"][::2], used["annotations"][1::2]
    ticks = [(float(place), text) for place, text in zip(places, texts, strict=True)]
    assert texts == ticks_of_composition()
    low, high = expected(surfaces)[:2]
    for view, levels, surface in zip(used["views"], used["levels"], surfaces, strict=True):
        check(surfaces, used["ends"], levels, ticks, view["direction"], view["lights"])
        values = np.log(np.minimum(surface.metric(), ZMAX) + 0.1)
        heights = (np.array([values.min(), values.max()]) - low) * 0.55 * 2 / (high - low)
        np.testing.assert_allclose(view["bounds"][4:], heights, atol=1e-6)


@pytest.mark.parametrize(("look", "style"), product(LOOKS, (None, "filled")))
def test_json_keeps_every_number(look, style):
    picture = PictureOptions(look=look, style=style, contours=4)
    composition = compose(pair(), GridOptions(zmin=0.5), picture, ["a", "</script>"])
    assert from_json(to_json(composition)) == composition


def changed(path, value):
    facts = json.loads(to_json(composition_of(pair())))
    part = facts
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return json.dumps(facts)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "composition: expected the fields"),
        (changed(["camera", "aim"], [0, 1]), "composition.camera.aim: expected 3 values, got 2"),
        (changed(["width"], "wide"), 'composition.width: expected float, got "wide"'),
        (changed(["width"], True), "composition.width: expected float, got true"),
        (changed(["panels", 0, "options", "metric"], 3), r"composition.panels\[0\].options.metric: expected str, got 3"),
        (changed(["scale", "color_map"], "__import__"), "unknown color map '__import__'"),
        (changed(["picture", "view"], "../../x"), "unknown view"),
    ],
)
def test_a_composition_that_does_not_fit_is_refused_by_place(text, told):
    with pytest.raises(InputError, match=told):
        from_json(text)


def test_single_options_count_beside_groups_of_options(tmp_path):
    surfaces = [surface_of(wavy, 11, 9)]

    def drawn(**options):
        return image.imread(render(surfaces, tmp_path / "s.png", size=(200, 150), **options))

    grouped = drawn(options=GridOptions(log=False, zmax=3.0))
    np.testing.assert_array_equal(drawn(options=GridOptions(log=False), zmax=3.0), grouped)
    assert np.abs(drawn(options=GridOptions(log=False)) - grouped).max() > 0.1
    np.testing.assert_array_equal(drawn(picture=PictureOptions(look="clay"), view="top"), drawn(look="clay", view="top"))
    with pytest.raises(TypeError, match="unexpected keyword argument 'zmx'; did you mean zmax"):
        drawn(zmx=3.0)


def test_what_an_engine_does_not_draw_is_refused_by_name(tmp_path):
    surfaces = [surface_of(wavy, 9, 9)]
    for draw, told in (
        (lambda: write_page(surfaces, tmp_path / "s.html", ["a"], axes=True, floor=True), "floor, axes: not drawn in a page"),
        (lambda: render(surfaces, tmp_path / "s.png", style="heat", minimum=True), "minimum: drawn on lit surfaces only"),
        (lambda: render(surfaces, tmp_path / "s.png", backend="paraview", floor=True), "floor: drawn by pyvista only"),
        (lambda: make_movie(surfaces, tmp_path / "s.mp4", transparent=True), "leave style and transparent out"),
    ):
        with pytest.raises(InputError, match=told):
            draw()
    surfaces[0].save(tmp_path / "s.h5")
    done = call("render", tmp_path / "s.h5", tmp_path / "s.html", "--axes")
    assert (done.returncode, done.stderr) == (2, "paraloss: axes: not drawn in a page; make a picture (.png)\n")
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


def test_contours_are_as_many_as_asked_for_from_above_too(tmp_path, monkeypatch):
    figures, save = [], Figure.savefig

    def keep(figure, *arguments, **options):
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    for contours in (None, 4):
        render([surface_of(wavy, 21, 21)], tmp_path / "s.png", style="contour", contours=contours)
    round_ones, four = (next(c for c in f.axes[0].get_children() if isinstance(c, QuadContourSet)).levels for f in figures)
    values = np.log(surface_of(wavy, 21, 21).metric() + 0.1)
    np.testing.assert_allclose(four, np.linspace(values.min(), values.max(), 6)[1:-1])
    for level in np.exp(round_ones) - 0.1:
        assert float(f"{level:.1g}") == pytest.approx(level) or float(f"{level:.2g}") == pytest.approx(level)


def test_a_flat_surface_has_a_scale(tmp_path):
    flat = Surface(np.arange(3.0), np.arange(3.0), {"train_acc": np.full((3, 3), 50.0)}, np.ones((3, 3), np.uint8))
    scale = compose([flat]).scale
    assert (scale.low, scale.high) == (50.0, 51.0)
    for style in (None, "heat", "filled", "contour"):
        assert render([flat], tmp_path / "s.png", style=style, size=(300, 200)).exists()
