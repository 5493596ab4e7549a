"""ParaView's states are programs: what runs code is refused before ParaView sees it, unless it is trusted."""

import re
import textwrap
from pathlib import Path

import pytest
from helpers import needs_paraview, surface_of, under_display

from paraloss.errors import InputError
from paraloss.state_files.trusted import MOST_BYTES, read_state

STATES = Path(__file__).resolve().parents[2] / "state_files"
FORM = """<ParaView><ServerManagerState version="5.11.0">
<Proxy group="sources" type="LossSurfaceReader" id="1"/>{}
</ServerManagerState></ParaView>"""


def state(folder, inner, name="s.pvsm"):
    (folder / name).write_text(FORM.format(inner))
    return folder / name


@pytest.mark.parametrize("path", sorted(STATES.glob("*.pvsm")), ids=lambda path: path.stem)
def test_our_own_states_run_no_code(path):
    assert read_state(path).getroot().find("ServerManagerState") is not None


PROXIES = {
    "filters": [
        "ProgrammableFilter",
        "ProgrammableAnnotation",
        "PythonCalculator",
        "PythonAnnotation",
        "AnnotateAttributeData",
    ],
    "sources": ["ProgrammableSource", "LiveProgrammableSource", "SelectionQuerySource"],
    "views": ["PythonView"],
    "representations": ["PythonRepresentation"],
    "animation": ["PythonAnimationCue"],
    "extract_triggers": ["Python"],
    "misc": ["ExecutableRunner", "DataMover"],
    "pythontracing": ["PythonStateOptions"],
    "writers": ["XMLPolyDataWriter"],
    "extract_writers": ["PNG"],
}


@pytest.mark.parametrize(("group", "kind"), [(group, kind) for group, kinds in PROXIES.items() for kind in kinds])
def test_a_proxy_that_runs_code_or_writes_files_is_named_and_refused(group, kind, tmp_path):
    path = state(tmp_path, f'<Proxy group="{group}" type="{kind}" id="2"/>')
    with pytest.raises(InputError, match=f"s.pvsm: the proxy {kind} runs code.*--trust"):
        read_state(path)
    assert read_state(path, trust=True).getroot().find(f".//Proxy[@type='{kind}']") is not None


@pytest.mark.parametrize(
    "name", ["Script", "RequestInformationScript", "PythonPath", "Command", "QueryString", "ShaderReplacements"]
)
def test_a_program_in_a_proxy_of_any_name_is_refused_and_an_empty_one_is_none(name, tmp_path):
    prop = '<Proxy type="Innocent"><Property name="{}"><Element index="0" value="{}"/></Property></Proxy>'
    with pytest.raises(InputError, match=f"the proxy Innocent holds a program in its property {name}"):
        read_state(state(tmp_path, prop.format(name, "import os")))
    read_state(state(tmp_path, prop.format(name, "")))


def test_definitions_of_proxies_are_refused_because_they_rename_others(tmp_path):
    hidden = '<CustomProxyDefinitions><CustomProxyDefinition name="Nice" group="filters"/></CustomProxyDefinitions>'
    with pytest.raises(InputError, match="defines a proxy of its own, Nice"):
        read_state(state(tmp_path, hidden))


HOSTILE = {
    "entities": '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><ParaView>&b;</ParaView>',
    "external": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ParaView>&a;</ParaView>',
    "deep": "<ParaView>" * 5000,
    "cut": "<ParaView><ServerManagerState>",
    "other": "<html/>",
    "empty": "",
    "binary": "\x00\x01",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("trust", [False, True])
def test_xml_that_is_damaged_or_multiplies_is_refused_even_when_trusted(name, trust, tmp_path):
    (tmp_path / "s.pvsm").write_text(HOSTILE[name])
    with pytest.raises(InputError, match=r"s\.pvsm: "):
        read_state(tmp_path / "s.pvsm", trust)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-7"])
def test_no_encoding_hides_a_document_type(encoding, tmp_path):
    (tmp_path / "s.pvsm").write_bytes(HOSTILE["entities"].encode(encoding))
    with pytest.raises(InputError):
        read_state(tmp_path / "s.pvsm")


def test_a_huge_state_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "s.pvsm").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="at most 64 MiB"):
        read_state(tmp_path / "s.pvsm")


@pytest.mark.slow
@pytest.mark.paraview
def test_a_program_in_a_real_state_runs_with_trust_alone(tmp_path):
    """The state is saved by ParaView itself; with --trust its program runs, which shows that the trap is live."""
    needs_paraview()
    surface_of(lambda x, y: x**2 + 2 * y**2, 9, 9).save(tmp_path / "s.h5")
    script = tmp_path / "make.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(STATES)!r})
        import scene
        from paraview import simple
        scene.draw("lit_surface", [{str(tmp_path / "s.h5")!r}])
        reader = next(iter(simple.GetSources().values()))
        trap = simple.ProgrammableFilter(Input=reader)
        trap.Script = "open({str(tmp_path / "ran")!r}, 'w').close(); output.ShallowCopy(inputs[0].VTKObject)"
        simple.Show(trap)
        simple.SaveState({str(tmp_path / "trap.pvsm")!r})
        """)
    )
    done = under_display(["pvpython", str(script)])
    assert re.search("ProgrammableFilter", (tmp_path / "trap.pvsm").read_text()), done.stdout + done.stderr
    command = ["pvbatch", str(STATES / "render.py"), str(tmp_path / "s.h5"), "--state", str(tmp_path / "trap.pvsm")]
    command += ["-o", str(tmp_path / "p.png"), "--size", "160x120"]
    (tmp_path / "ran").unlink(missing_ok=True)
    done = under_display(command)
    assert done.returncode == 2, done.stdout + done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("paraloss: ")]
    assert len(said) == 1 and "the proxy ProgrammableFilter runs code" in said[0] and "--trust" in said[0]
    assert not (tmp_path / "ran").exists() and not (tmp_path / "p.png").exists()
    done = under_display([*command, "--trust"])
    assert (tmp_path / "p.png").exists(), done.stdout + done.stderr
    assert (tmp_path / "ran").exists()
