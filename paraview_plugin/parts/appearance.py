"""Colors of our filters when they are shown by hand: in one color each, whatever array the surface is colored by.

ParaView gives a new representation the colors of its input, unless they were set before. A proxy's XML cannot set them, so the
client watches for new representations and does.
"""

from paraloss.look import LOOKS, MARK_COLOR

COLORS = {
    "SurfaceContours": LOOKS["paper"].line,
    "OptimizerTrajectory": LOOKS["paper"].line,
    "MinimumMarker": MARK_COLOR,
}
_seen = set()


def color_new_representations():
    """Give every representation of our filters that is made from now on its color; on a server there is nothing to do."""
    from paraview.modules.vtkRemotingServerManager import vtkSMProxyManager

    if not vtkSMProxyManager.IsInitialized():
        return
    manager = vtkSMProxyManager.GetProxyManager()
    if manager is not None:
        manager.AddObserver("RegisterEvent", _color)


def _color(manager, event):
    session = manager.GetActiveSessionProxyManager()
    if session is None:
        return
    for number in range(session.GetNumberOfProxies("representations")):
        display = session.GetProxy("representations", session.GetProxyName("representations", number))
        if display is None or display.GetGlobalID() in _seen:
            continue
        _seen.add(display.GetGlobalID())
        source = display.GetProperty("Input") and display.GetProperty("Input").GetProxy(0)
        color = COLORS.get(source.GetXMLName()) if source else None
        if color is None:
            continue
        for name in ("AmbientColor", "DiffuseColor"):
            prop = display.GetProperty(name)
            for k, part in enumerate(color):
                prop.SetElement(k, part)
            prop.Modified()
        display.UpdateVTKObjects()
