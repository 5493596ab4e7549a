"""File > Open, Apply in ParaView's window, by a user who knows nothing of Paraloss but has the plugin."""

import json
import os
import time

import numpy as np
import pytest
from helpers import needs_paraview
from test_live import photograph, started, until
from test_plugin import HOUSE, bumpy

from paraloss.converters import convert
from paraloss.look import LOOKS

pytestmark = pytest.mark.paraview

# A second plugin, which writes down what the view shows after each picture.
PROBE = """
import json
from paraview import servermanager
manager = servermanager.vtkSMProxyManager.GetProxyManager()
seen = set()
def all_of(group):
    proxies = manager.GetActiveSessionProxyManager()
    names = [proxies.GetProxyName(group, k) for k in range(proxies.GetNumberOfProxies(group))]
    return [proxies.GetProxy(group, name) for name in names]
def values(proxy, name):
    return list(servermanager._getPyProxy(proxy).GetProperty(name))
def write(*_):
    view, facts = all_of("views")[0], {}
    for one in all_of("representations"):
        if one.GetXMLName().startswith("StructuredGrid"):
            facts["specular"] = values(one, "Specular")[0]
    for table in all_of("lookup_tables"):
        facts["ticks"] = values(table, "Annotations")
    facts["camera"] = values(view, "CameraPosition")
    facts["lights"] = len(values(view, "AdditionalLights"))
    with open(PLACE, "w") as file:
        json.dump(facts, file)
def attach(*_):
    for view in all_of("views") if manager.GetActiveSessionProxyManager() else []:
        if view.GetGlobalID() not in seen:
            seen.add(view.GetGlobalID())
            view.AddObserver("EndEvent", write)
manager.AddObserver("RegisterEvent", attach)
"""


@pytest.fixture(autouse=True)
def _paraview():
    needs_paraview()


def window_on(file, folder):
    """ParaView with both plugins, the file opened and applied as by hand; takes a picture for each line that it is sent."""
    from helpers import virtual_display

    settings = folder / "home" / ".config" / "ParaView"
    settings.mkdir(parents=True)
    for name in ("ParaView5.11.0.ini", "ParaView5.13.2.ini", "ParaView.ini"):
        (settings / name).write_text("[General]\nGeneralSettings.ShowWelcomeDialog=false\n")
    (settings / "ParaView-UserSettings.json").write_text('{"settings": {"GeneralSettings": {"AutoApply": 1}}}')
    probe = folder / "probe"
    probe.mkdir()
    (probe / "probe.py").write_text(f"PLACE = {str(folder / 'facts')!r}\n{PROBE}")
    work = f"paraview --data={file} & while read name; do xwd -root -silent -out $name.part; mv $name.part $name; done"
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
    places = {
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(settings.parent),
        "PYTHONPATH": str(HOUSE / "state_files" / "gui"),
        "PV_PLUGIN_PATH": f"{HOUSE / 'paraview_plugin'}:{probe}",
    }
    return started([*virtual_display(), "bash", "-c", work], folder, "window", env={**kept, **places})


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["h5", "vts"])
def test_a_surface_that_is_opened_by_hand_is_lit_and_has_ticks_of_the_loss(ending, tmp_path):
    bumpy(41, 31).save(tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.vts")
    facts = {}

    def dressed():
        try:
            facts.update(json.loads((tmp_path / "facts").read_text()))
        except (OSError, ValueError):
            return False
        return facts.get("lights", 0) > 0

    with window_on(tmp_path / f"s.{ending}", tmp_path) as window:
        until(dressed, lambda: f"{facts} {(tmp_path / 'window.log').read_text()}")
        time.sleep(1)
        picture = photograph(tmp_path, window, "picture")
    look = LOOKS["paper"]
    assert facts["specular"] == pytest.approx(look.material.specular)
    assert facts["lights"] == len(look.lights)
    _, y, z = facts["camera"]
    assert y < -1 and z > 1, "from the front and from above"
    loss = bumpy(41, 31).metric()
    for place, text in zip(facts["ticks"][::2], facts["ticks"][1::2], strict=True):
        assert float(place) == pytest.approx(np.log(float(text) + 0.1))
        assert loss.min() <= float(text) <= loss.max()
    assert len(facts["ticks"]) >= 6
    blue, red = picture[..., 2].astype(int), picture[..., 0].astype(int)
    assert (blue - red > 90).sum() > 1000  # the basin, beside the window's own gray blue
    assert (red - blue > 60).sum() > 1000
