"""Properties of the proxies: their XML, and the values behind them."""

from vtkmodules.vtkCommonDataModel import vtkDataObject

from paraloss.errors import InputError


class HeightOptions:
    """The properties of heights that reader and filter share; a mixin of plain state."""

    def init_options(self):
        """Start with the defaults of the properties."""
        self._log, self._offset = 0, 0.1
        self._clip, self._zmax, self._clip_below, self._zmin = 0, 10.0, 0, 0.0
        self._auto, self._scale, self._base = 1, 1.0, 0.0

    def grid_options(self, metric):
        """The options of heights that the properties mean."""
        from paraloss.picture_options import GridOptions

        return GridOptions(
            metric=metric or None,
            log=(None, True, False)[self._log],
            log_offset=self._offset,
            zmax=self._zmax if self._clip else None,
            zmin=self._zmin if self._clip_below else None,
            height_scale=None if self._auto else self._scale,
            height_base=0.0 if self._auto else self._base,
        )

    def SetLogScale(self, value):
        self.change("_log", int(value))

    def SetLogOffset(self, value):
        self.change("_offset", float(value))

    def SetClip(self, value):
        self.change("_clip", int(value))

    def SetClipAt(self, value):
        self.change("_zmax", float(value))

    def SetClipBelow(self, value):
        self.change("_clip_below", int(value))

    def SetClipBelowAt(self, value):
        self.change("_zmin", float(value))

    def SetAutomaticHeight(self, value):
        self.change("_auto", int(value))

    def SetHeightScale(self, value):
        self.change("_scale", float(value))

    def SetHeightBase(self, value):
        self.change("_base", float(value))

    def change(self, name, value):
        """Set an attribute; the data are made again if it differs."""
        if getattr(self, name) != value:
            setattr(self, name, value)
            self.Modified()


def height_xml(height_from):
    """XML of the properties of heights; ``height_from`` names the property that chooses metric or array."""
    return _HEIGHT_XML.replace("HEIGHT_FROM", height_from)


def scalar_name(data, information):
    """Name of the point array that the filter was given; the active scalars, else the first array, where it has none."""
    points = data.GetPointData()
    name = information.Get(vtkDataObject.FIELD_NAME()) or ""
    if name and points.GetArray(name) is not None:
        return name
    return (points.GetScalars().GetName() if points.GetScalars() else points.GetArrayName(0)) or ""


def numbers(text, name):
    """The numbers of a property's text, separated by spaces or commas.

    Raises:
        InputError: something else is among them.
    """
    words = text.replace(",", " ").split()
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{name}: '{' '.join(words)}' are not numbers separated by spaces") from error


_HEIGHT_XML = """
  <IntVectorProperty name="LogScale" label="Log Scale" command="SetLogScale" number_of_elements="1" default_values="0">
    <EnumerationDomain name="enum"><Entry text="For losses" value="0"/><Entry text="Always" value="1"/>
      <Entry text="Never" value="2"/></EnumerationDomain>
    <Documentation>Take the height from ln(value + Log Offset). By default for losses, not for accuracies.</Documentation>
  </IntVectorProperty>
  <DoubleVectorProperty name="LogOffset" label="Log Offset" command="SetLogOffset" number_of_elements="1"
                        default_values="0.1">
    <DoubleRangeDomain name="range"/>
    <Documentation>Added to the value before the logarithm, in the metric's unit; 0.1 as in Li et al. 2018.</Documentation>
  </DoubleVectorProperty>
  <IntVectorProperty name="Clip" label="Clip" command="SetClip" number_of_elements="1" default_values="0">
    <BooleanDomain name="bool"/>
    <Documentation>Draw values above Clip At at that value; the array "clipped" marks them. The filter Cut Surface leaves
      them out.</Documentation>
  </IntVectorProperty>
  <DoubleVectorProperty name="ClipAt" label="Clip At" command="SetClipAt" number_of_elements="1" default_values="10">
    <DoubleRangeDomain name="range"/>
    <Documentation>Largest value that is drawn, in the metric's own unit.</Documentation>
    <Hints><PropertyWidgetDecorator type="GenericDecorator" mode="visibility" property="Clip" value="1"/></Hints>
  </DoubleVectorProperty>
  <IntVectorProperty name="ClipBelow" label="Clip Below" command="SetClipBelow" number_of_elements="1" default_values="0">
    <BooleanDomain name="bool"/>
    <Documentation>Draw values below Clip Below At at that value; the array "clipped" marks them.</Documentation>
  </IntVectorProperty>
  <DoubleVectorProperty name="ClipBelowAt" label="Clip Below At" command="SetClipBelowAt" number_of_elements="1"
                        default_values="0">
    <DoubleRangeDomain name="range"/>
    <Documentation>Smallest value that is drawn, in the metric's own unit.</Documentation>
    <Hints><PropertyWidgetDecorator type="GenericDecorator" mode="visibility" property="ClipBelow" value="1"/></Hints>
  </DoubleVectorProperty>
  <IntVectorProperty name="AutomaticHeight" label="Automatic Height" command="SetAutomaticHeight" number_of_elements="1"
                     default_values="1">
    <BooleanDomain name="bool"/>
    <Documentation>Scale so that the height is 0.55 of the width: neither flat nor needle-like.</Documentation>
  </IntVectorProperty>
  <DoubleVectorProperty name="HeightScale" label="Height Scale" command="SetHeightScale" number_of_elements="1"
                        default_values="1">
    <DoubleRangeDomain name="range"/>
    <Documentation>Height per unit of the (log) metric, when Automatic Height is off.</Documentation>
    <Hints><PropertyWidgetDecorator type="GenericDecorator" mode="visibility" property="AutomaticHeight" value="0"/></Hints>
  </DoubleVectorProperty>
  <DoubleVectorProperty name="HeightBase" label="Height Base" command="SetHeightBase" number_of_elements="1"
                        default_values="0">
    <DoubleRangeDomain name="range"/>
    <Documentation>Value of the (log) metric at height 0, when Automatic Height is off.</Documentation>
    <Hints><PropertyWidgetDecorator type="GenericDecorator" mode="visibility" property="AutomaticHeight" value="0"/></Hints>
  </DoubleVectorProperty>
  <PropertyGroup label="Height">
    <Property name="HEIGHT_FROM"/>
    <Property name="LogScale"/><Property name="LogOffset"/><Property name="Clip"/><Property name="ClipAt"/>
    <Property name="ClipBelow"/><Property name="ClipBelowAt"/>
    <Property name="AutomaticHeight"/><Property name="HeightScale"/><Property name="HeightBase"/>
  </PropertyGroup>
"""
METRIC_XML = """
  <StringVectorProperty name="MetricInfo" command="GetMetricInfo" information_only="1"/>
  <StringVectorProperty name="Metric" label="Height From" command="SetMetric" number_of_elements="1">
    <StringListDomain name="list">
      <RequiredProperties><Property name="MetricInfo" function="StringInfo"/></RequiredProperties>
    </StringListDomain>
    <Documentation>The metric that gives height and color; empty takes the training loss.</Documentation>
  </StringVectorProperty>
"""

SCALAR_XML = """
  <StringVectorProperty name="Scalar" label="Height From" command="SetInputArrayToProcess" number_of_elements="5"
                        element_types="0 0 0 0 2" animateable="0">
    <ArrayListDomain name="array_list" attribute_type="Scalars">
      <RequiredProperties><Property name="Input" function="Input"/></RequiredProperties>
    </ArrayListDomain>
    <Documentation>The point array that gives the height.</Documentation>
  </StringVectorProperty>
"""

MENU_XML = '<ShowInMenu category="Paraloss"/>'
"""A group of its own in the menus Sources and Filters."""

INPUT_STAYS_XML = '<Visibility replace_input="0"/>'

OWN_LOSS_XML = """
  <IntVectorProperty name="OwnLoss" label="At Own Loss" command="SetOwnLoss" number_of_elements="1" default_values="0">
    <BooleanDomain name="bool"/>
    <Documentation>Height from each checkpoint's own loss instead of the surface's height below it. They differ: a checkpoint
      lies off the plane, by the array "residual".</Documentation></IntVectorProperty>
"""

LIVE_HINT = '<LiveSource interval="2000"/>'
"""Every 2,000 ms ParaView's window asks a reader for ``GetNeedsUpdate``."""

EVERY_XML = """
  <IntVectorProperty name="Every" label="Read Every" command="SetEvery" number_of_elements="1" default_values="1">
    <EnumerationDomain name="enum"><Entry text="Point" value="1"/><Entry text="2nd point" value="2"/>
      <Entry text="4th point" value="4"/><Entry text="8th point" value="8"/><Entry text="16th point" value="16"/>
      <Entry text="32nd point" value="32"/></EnumerationDomain>
    <Documentation>Read a part of a large surface only, of every 2nd to 32nd row and column, to turn it around quickly.
      Colors and heights stay those of the whole; a surface that would keep fewer than three points is read
      whole.</Documentation>
  </IntVectorProperty>
"""

FOLLOW_XML = """
  <IntVectorProperty name="Follow" label="Follow Running Job" command="SetFollow" number_of_elements="1" default_values="1">
    <BooleanDomain name="bool"/>
    <Documentation>Draw what a running job adds to the file, at the finest complete level, without being asked. Off: pause.
      Reload File reads the file once more.</Documentation>
  </IntVectorProperty>
  <Property name="Poll" label="Look For News" command="GetNeedsUpdate" panel_visibility="never">
    <Documentation>For scripts: read the file again if a running job has added to it.</Documentation></Property>
"""

SEVERAL_XML = """
  <IntVectorProperty name="Shown" label="Show" command="SetShown" number_of_elements="1" default_values="0">
    <EnumerationDomain name="enum"><Entry text="Mean, spread as color" value="0"/>
      <Entry text="First minus second" value="1"/></EnumerationDomain>
    <Documentation>The mean of all surfaces with their standard deviation as the array "..._std", or the difference of two,
      in the unit of the metric.</Documentation>
  </IntVectorProperty>
"""
