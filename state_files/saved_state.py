"""A ``.pvsm`` on other files than those it was saved with."""

import tempfile
from pathlib import Path
from xml.etree import ElementTree

import scene
from paraview import simple
from readers import fix_heights, load_plugin
from trusted import read_state

from paraloss.errors import InputError
from paraloss.picture_options import PictureOptions

READERS = ("LossSurfaceReader", "XMLStructuredGridReader")


def open_state(state, files, wanted, trust=False):
    """The scene of a state on other surface files; colors, lights and camera are fitted to their data.

    Args:
        state: the ``.pvsm`` file.
        files: surface files.
        wanted: ``scene.Wanted``.
        trust: let the state run the Python that it holds.

    Raises:
        InputError: no such state, one that reads no loss surface, or one that runs code and is not trusted.
    """
    _load(state, files, trust)
    sources = [source for source in simple.GetSources().values() if source.GetXMLName() in READERS]
    if not sources:
        raise InputError(f"{state}: this state reads no loss surface")
    composition = scene.compose_sources(sources, PictureOptions(transparent=wanted.picture.transparent), wanted.size)
    if len(sources) > 1:
        for source, panel in zip(sources, composition.panels, strict=True):
            fix_heights(source, panel.options)
    drawn = scene.Scene(sources, composition, wanted.finer, views=simple.GetRenderViews())
    scale = composition.scale
    table = simple.GetColorTransferFunction(scale.array)
    table.RescaleTransferFunction(scale.low, scale.high)
    drawn.fit_scalar_bar(table, drawn.views[-1])
    for path in simple.GetSources().values():
        if path.GetXMLName() == "OptimizerTrajectory":
            path.UpdatePipeline()
            if path.PointData["step"] is not None:
                simple.GetColorTransferFunction("step").RescaleTransferFunction(*path.PointData["step"].GetRange())
    return drawn


def _load(state, files, trust):
    """Load the state with ``files`` in the places of its own files, in their order of appearance."""
    tree = read_state(state, trust)
    load_plugin()
    readers = [proxy for proxy in tree.iter("Proxy") if proxy.get("type") in READERS]
    for number, proxy in enumerate(readers):
        replacement = files if len(readers) == 1 else [files[number] if number < len(files) else files[-1]]
        for prop in [p for p in proxy.iter("Property") if p.get("name") in ("FileNames", "FileName", "FileNameInfo")]:
            for element in [e for e in prop if e.tag == "Element"]:
                prop.remove(element)
            prop.set("number_of_elements", str(len(replacement)))
            for index, file in enumerate(replacement):
                prop.insert(index, ElementTree.Element("Element", index=str(index), value=str(Path(file).resolve())))
    with tempfile.TemporaryDirectory() as folder:
        relocated = Path(folder) / Path(state).name
        tree.write(relocated)
        simple.LoadState(str(relocated))
