"""States of ParaView are programs: some proxies run Python, and ParaView asks nobody before it loads them.

``read_state`` parses a ``.pvsm`` before ParaView sees it. Needs no ParaView.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from paraloss.errors import InputError
from paraloss.files import check_input
from paraloss.text import printable

MOST_BYTES = 64 * 2**20
MOST_DEPTH = 200
# Names of proxies that run Python, a script or a program, in ParaView 5.10 to 6.1 and in plugins.
RUNS_CODE = re.compile(r"python|programmable|script|macro|shell|execut|jupyter|catalyst|steering", re.IGNORECASE)
# Proxies that hand their texts to Python, or move and write files, under names that do not say so.
ALSO_REFUSED = {"AnnotateAttributeData", "AnnotateGlobalData", "SelectionQuerySource", "DataMover", "FindDataHelper"}
WRITERS = {"writers", "internal_writers", "extract_writers", "extractors", "screenshot_writers", "extract_triggers"}
# Properties that hold a program, whatever proxy they belong to.
PROGRAMS = re.compile(r"script|python|^command$|^querystring$|^shaderreplacements$", re.IGNORECASE)
_WHAT_TO_DO = "A state like this is a program: look at it, and pass --trust if you trust its author"


def read_state(path, trust=False):
    """Parse a state; refuse one that runs code, unless it is trusted.

    Args:
        path: the ``.pvsm`` file.
        trust: let pass what runs Python, because the state's author is trusted.

    Returns:
        The ``ElementTree.ElementTree`` of the state.

    Raises:
        InputError: no such file, too large, no XML, entities of its own, or a proxy that runs code; names the proxy.
    """
    check_input(path)
    size = Path(path).stat().st_size
    if size > MOST_BYTES:
        raise InputError(f"{path}: a state of {size / 2**20:.0f} MiB; at most {MOST_BYTES // 2**20} MiB are read")
    tree = ElementTree.ElementTree(_parsed(path))
    if not trust:
        for proxy in tree.iter():
            _refuse_code(path, proxy)
    return tree


def _parsed(path):
    """The root element, without a document type and so without entities, and not deeper than ``MOST_DEPTH``."""
    try:  # as text: of bytes the parser would guess an encoding, in which entities go unseen
        content = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no state of ParaView, whose states are UTF-8 ({error})") from error
    if "\0" in content or "<!DOCTYPE" in content or "<!ENTITY" in content:  # zeros: the parser would take it for UTF-16
        raise InputError(f"{path}: holds zeros, a document type or entities, which no state of ParaView does")
    parser, depth = ElementTree.XMLPullParser(("start", "end")), 0
    root = None
    try:
        for start in range(0, len(content), 65536):
            parser.feed(content[start : start + 65536])
            for event, element in parser.read_events():
                root = element if root is None else root
                depth += 1 if event == "start" else -1
                if depth > MOST_DEPTH:
                    raise InputError(f"{path}: its elements are nested deeper than {MOST_DEPTH} levels")
        parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: is no state of ParaView: its XML is damaged ({error})") from error
    if root is None or root.tag not in ("ParaView", "ServerManagerState", "GenericParaViewApplication"):
        raise InputError(f"{path}: is no state of ParaView")
    return root


def _refuse_code(path, element):
    """Refuse a proxy that runs code or writes files, and definitions of proxies, which can hide any other."""
    if element.tag == "CustomProxyDefinitions" and len(element):
        name = printable(element[0].get("name", "without a name"))[:80]
        raise InputError(f"{path}: defines a proxy of its own, {name}, which may run any code. {_WHAT_TO_DO}")
    kind, group = element.get("type", ""), element.get("group", "")
    if element.tag == "Proxy" and (RUNS_CODE.search(kind) or kind in ALSO_REFUSED or group in WRITERS or "trac" in group):
        raise InputError(f"{path}: the proxy {printable(kind)[:80]} runs code or writes files. {_WHAT_TO_DO}")
    if element.tag != "Proxy":
        return
    for prop in element.iter("Property"):
        if PROGRAMS.search(prop.get("name", "")) and any(value.get("value", "").strip() for value in prop.iter("Element")):
            raise InputError(
                f"{path}: the proxy {printable(kind)[:80]} holds a program in its property {printable(prop.get('name'))[:80]}. "
                f"{_WHAT_TO_DO}"
            )
