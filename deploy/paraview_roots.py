"""Root folders of other Debian releases, each with its ParaView, whose programs run through shims on the PATH.

A root is made once, by mmdebstrap, and kept. Mounts live in a mount namespace of this process: whatever ends it, they end with
it, so that no folder is ever removed with the checkout mounted in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PROGRAMS = ("pvpython", "pvbatch", "pvserver", "paraview", "mpirun")
PACKAGES = ("paraview", "python3-paraview", "python3-h5py", "xvfb", "xauth", "openmpi-bin")
SVG = {"trixie": "libqt5svg5", "forky": "libqt6svg6"}  # icons of the window; what a release calls it
_INSIDE = "PARALOSS_OWN_MOUNTS"


class Refused(Exception):
    """Why this machine cannot do it, in one line."""


def own_mounts() -> None:
    """Start this program over in a mount namespace of its own, unless it runs in one.

    Raises:
        Refused: not Linux, or no root.
    """
    if os.environ.get(_INSIDE):
        return
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Refused("needs Linux and root: it mounts folders and changes the root folder")
    os.environ[_INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])


def make_root(release: str, folder: Path) -> Path:
    """The root of a Debian release with ParaView, made unless it is there; one that was begun is begun again.

    Args:
        release: code name, such as ``trixie``.
        folder: folder of the roots.

    Raises:
        Refused: mmdebstrap is missing, or failed, as without a network.
    """
    root, partial = folder / release, folder / f"{release}.partial"
    if root.is_dir():
        return root
    if not shutil.which("mmdebstrap"):
        raise Refused("mmdebstrap is missing: apt install mmdebstrap")
    mirror = find_mirror()
    remove(partial)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{release}: making its root folder, about 7 minutes and 2.3 GB", flush=True)
    command = [
        "mmdebstrap",
        "--variant=minbase",
        '--aptopt=Acquire::Check-Valid-Until "false"',  # the release file of a release to come is often expired
        '--aptopt=APT::Install-Recommends "false"',
        f"--include={','.join([*PACKAGES, SVG[release]])}",
        release,
        str(partial),
        mirror,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        remove(partial)
        errors = (
            [line for line in done.stderr.splitlines() if line.startswith("E: ")] or done.stderr.splitlines() or ["no message"]
        )
        raise Refused(f"{release}: mmdebstrap failed: {errors[0].removeprefix('E: ')}; is there a network, and room for 3 GB?")
    partial.rename(root)
    return root


def remove(root: Path) -> None:
    """Remove a root folder; what is mounted in it is unmounted first, and no other file system is entered."""
    if not root.exists():
        return
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1].encode().decode("unicode_escape")
        if Path(place).is_relative_to(root):
            subprocess.run(["umount", "--lazy", place], check=True)
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)


def find_mirror() -> str:
    """The mirror of this system's own release, from its apt sources.

    Raises:
        Refused: not Debian, or no source of it is found.
    """
    system = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    if system.get("ID") != "debian":
        raise Refused("needs Debian, whose mirror has the other releases")
    folder = Path("/etc/apt")
    for path in sorted([folder / "sources.list", *folder.glob("sources.list.d/*")]):
        if path.suffix in (".list", ".sources") and path.is_file():
            for uris, suites, components in _sources(path):
                if system.get("VERSION_CODENAME") in suites and "main" in components:
                    return uris[0]
    raise Refused(f"no source of Debian {system.get('VERSION_CODENAME')} in {folder}")


def _sources(path: Path) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """(URIs, suites, components) of each source in a file of apt's, in either of its two forms."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    if path.suffix == ".list":
        for uri, suite, components in re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", text, re.MULTILINE):
            yield [uri], [suite], components.split()
        return
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            key.lower(): value.split() for key, value in re.findall(r"^([\w-]+):(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and fields.get("uris"):
            yield fields["uris"], fields.get("suites", []), fields.get("components", [])


def enter(root: Path, shims: Path, folders: Sequence[Path]) -> None:
    """Mount the system's folders and ``folders`` in a root, and write programs into ``shims`` that run in it.

    Args:
        root: root folder of a release.
        shims: empty folder, to be put in front of the PATH.
        folders: folders that programs in the root see at their own places.
    """
    for place in (Path("/proc"), Path("/dev"), Path("/sys"), *folders):
        inside = root / place.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(inside):
            subprocess.run(["mount", "--rbind" if place == Path("/dev") else "--bind", str(place), str(inside)], check=True)
    for program in PROGRAMS:
        shim = shims / program
        # The root's own programs alone: the PATH outside leads back to this file, and to another MPI.
        shim.write_text(
            "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
            f"""exec chroot '{root}' /bin/sh -c 'cd "$0" && exec "$@"' "$PWD" /usr/bin/{program} "$@"\n"""
        )
        shim.chmod(0o755)
