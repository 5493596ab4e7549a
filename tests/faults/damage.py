"""Sound files of every format that is read, and what may happen to them: bytes that change, and structures that lie."""

from __future__ import annotations

import io
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

Dice = np.random.Generator
DEEP = "[" * 50_000 + "]" * 50_000
NUMBERS = [0, 1, -1, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 10**30, 0.5, float("nan"), float("inf")]
STATE = """<ParaView><ServerManagerState version="5.11.0">
<Proxy group="sources" type="LossSurfaceReader" id="1"><Property name="FileNames" number_of_elements="1">
<Element index="0" value="s.h5"/></Property></Proxy></ServerManagerState></ParaView>
"""


def originals(folder: Path) -> dict[str, bytes]:
    """Sound files of every kind, the same bytes in every run."""
    from fuzz_readers import originals as readable
    from helpers import surface_of

    from paraloss.converters import convert

    found = readable(folder)
    surface_of(lambda x, y: x**2 + 2 * y**2 + 0.1, 7, 5).save(folder / "small.h5")
    for ending in (".vts", ".vtp", ".vtkhdf"):
        target = convert(folder / "small.h5", folder / f"grid{ending}")
        found[target.name] = target.read_bytes()
    found["state.pvsm"] = STATE.encode()
    return found


def damaged(name: str, content: bytes, dice: Dice) -> tuple[str, bytes]:
    """Return what was done, and the content afterwards."""
    of_its_kind = {".h5": [hdf5], ".vtkhdf": [hdf5], ".npz": [zipped], ".safetensors": [header], ".vts": [xml], ".vtp": [xml]}
    ways: list[Callable[[bytes, Dice], bytes]] = [flipped, cut, swapped, zeroed, inflated, repeated]
    special = of_its_kind.get(Path(name).suffix, [xml] if name.endswith(".pvsm") else [])
    if content.startswith(b"PK"):
        special = [zipped]
    way = special[0] if special and dice.random() < 0.6 else ways[int(dice.integers(len(ways)))]
    try:
        return way.__name__, way(content, dice)
    except Exception:
        return flipped.__name__, flipped(content, dice)  # h5py and zipfile cannot write every lie


def flipped(content: bytes, dice: Dice) -> bytes:
    """Bits flipped at random."""
    data = bytearray(content)
    for _ in range(int(dice.integers(1, 20))):
        data[int(dice.integers(len(data)))] ^= 1 << int(dice.integers(8))
    return bytes(data)


def cut(content: bytes, dice: Dice) -> bytes:
    """Cut short, or something appended."""
    return content[: int(dice.integers(len(content)))] if dice.random() < 0.8 else content + dice.bytes(100)


def swapped(content: bytes, dice: Dice) -> bytes:
    """Two blocks in each other's place."""
    size = int(dice.integers(1, max(2, len(content) // 4)))
    first, second = sorted(int(dice.integers(max(1, len(content) - size))) for _ in range(2))
    data = bytearray(content)
    data[first : first + size], data[second : second + size] = content[second : second + size], content[first : first + size]
    return bytes(data)


def zeroed(content: bytes, dice: Dice) -> bytes:
    """A span of zeros, as a file system leaves it after a crash."""
    size, start = int(dice.integers(1, 600)), int(dice.integers(len(content)))
    return (content[:start] + bytes(size) + content[start + size :])[: len(content)]


def inflated(content: bytes, dice: Dice) -> bytes:
    """Small numbers of two, four or eight bytes made huge: lengths, counts, offsets."""
    data = bytearray(content)
    for _ in range(int(dice.integers(1, 4))):
        width, form = [(2, "<H"), (4, "<I"), (8, "<Q")][int(dice.integers(3))]
        start = int(dice.integers(max(1, len(data) - width)))
        for place in range(start, min(start + 4000, len(data) - width)):
            value = struct.unpack_from(form, data, place)[0]
            if 0 < value < 4096:
                struct.pack_into(form, data, place, min(value << int(dice.integers(4, 50)), 2 ** (8 * width) - 1))
                break
    return bytes(data)


def repeated(content: bytes, dice: Dice) -> bytes:
    """Parts overwritten by other parts."""
    data = bytearray(content)
    for _ in range(int(dice.integers(1, 8))):
        place, other = int(dice.integers(len(data))), int(dice.integers(len(data)))
        data[place : place + 64] = data[other : other + len(data[place : place + 64])]
    return bytes(data)


def odd_values(dice: Dice, file: h5py.File | None = None) -> object:
    """A value of a kind that nobody expects there."""
    kinds: list[Callable[[], object]] = [
        lambda: "text", lambda: np.bytes_(b"\xff\xfe\x00x"), lambda: h5py.Empty("f8"), lambda: h5py.Empty("S1"),
        lambda: np.zeros((0,)), lambda: np.zeros((3, 0)), lambda: np.zeros((2, 2, 2)), lambda: np.float64("nan"),
        lambda: np.array([1 + 2j, 3]), lambda: np.array([True, False]), lambda: np.arange(4, dtype=">f8"),
        lambda: np.arange(5, dtype=np.float16), lambda: np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        lambda: np.array([np.inf, -np.inf, np.nan]), lambda: np.int64(-1), lambda: np.uint64(2**64 - 1), lambda: DEEP[:60_000],
        lambda: '{"a": NaN, "b": [1e999], "model": {"x": [[[[1]]]]}, "options": 3}', lambda: "[1, 2]", lambda: '"x"',
        lambda: "$\\frac{$ <b>\x1b[31m\u202e" * 50, lambda: np.array(["a", "b"], dtype="S1"), lambda: np.arange(6.0),
        lambda: np.array([["x"]], dtype=h5py.string_dtype()), lambda: file.ref if file is not None else 1,
        lambda: np.arange(9.0)[::-1].copy(), lambda: np.zeros(9), lambda: np.full((6, 9), 1e308), lambda: np.full((6, 9), 255),
    ]  # fmt: skip
    return kinds[int(dice.integers(len(kinds)))]()


def hdf5(content: bytes, dice: Dice) -> bytes:
    """Attributes and data sets of wrong types and shapes, groups in the place of data sets, links, sizes that lie."""
    memory = io.BytesIO(content)
    with h5py.File(memory, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(int(dice.integers(1, 4))):
            holders = [file, *(file[name] for name in names if name in file)]
            holder = holders[int(dice.integers(len(holders)))]
            if dice.random() < 0.4:
                keys = [*holder.attrs] or ["format"]
                key = keys[int(dice.integers(len(keys)))]
                if dice.random() < 0.2:
                    del holder.attrs[key]
                else:
                    holder.attrs[key] = odd_values(dice, file)
                continue
            name = names[int(dice.integers(len(names)))] if names else "x"
            if name in file:
                _replace(file, name, dice)
    return memory.getvalue()


def _replace(file: h5py.File, name: str, dice: Dice) -> None:
    old = file[name][()] if isinstance(file[name], h5py.Dataset) and file[name].nbytes < 10**6 else None
    del file[name]
    way = int(dice.integers(9))
    if way == 0:
        file[name] = odd_values(dice, file)
    elif way == 1:
        file.create_group(name)["inner"] = 1.0
    elif way == 2:
        file[name] = h5py.SoftLink(f"/{name}")  # a loop
    elif way == 3:
        file[name] = h5py.ExternalLink("../../secret.h5", "/x")
    elif way == 4:
        shape = (int(dice.choice([10**4, 2**31, 2**40])),) * int(dice.integers(1, 3))
        file.create_dataset(name, shape, dtype=["f8", "u1", "f4"][int(dice.integers(3))], chunks=True)
    elif way == 5 and isinstance(old, np.ndarray) and old.dtype.kind in "fiu":
        file[name] = old.astype(["S3", ">f8", "f2", "c16", "i1", "?", "u8"][int(dice.integers(7))])
    elif way == 6 and isinstance(old, np.ndarray):
        file[name] = [old.T, old[:0], old[None], np.append(old, 1), old[1:], old[::-1]][int(dice.integers(6))]
    elif way == 7 and isinstance(old, np.ndarray) and old.dtype.kind == "f" and old.size:
        values = old.copy()
        huge = np.finfo(old.dtype).max
        values.flat[:: int(dice.integers(1, 4))] = [np.nan, np.inf, -np.inf, huge, -huge, 5e-324][int(dice.integers(6))]
        file[name] = values
    # else: it is missing


def zipped(content: bytes, dice: Dice) -> bytes:
    """Members that are missing, doubled, renamed, compressed, exchanged or damaged within a sound archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = [(one.filename, old.read(one)) for one in old.infolist()]
    number = int(dice.integers(len(members)))
    name, data = members[number]
    way = int(dice.integers(8))
    if way == 0:
        del members[number]
    elif way == 1:
        members.append((name, data[: len(data) // 2]))
    elif way == 2:
        members[number] = (["../../evil", "/tmp/evil", "a" * 5000, "", "x\0y"][int(dice.integers(5))], data)
    elif way == 3:
        other = int(dice.integers(len(members)))
        members[number] = (name, members[other][1])
    elif way == 4 and data.startswith(b"\x93NUMPY"):
        members[number] = (name, _lying_npy(data, dice))
    elif name.endswith("data.pkl") and way == 5:
        members[number] = (name, b"\x80\x02" + b"(" * 100_000 + b"." if dice.random() < 0.3 else flipped(data, dice))
    elif name.endswith("byteorder"):
        members[number] = (name, [b"big", b"middle", b"", b"\xff"][int(dice.integers(4))])
    elif data:
        ways = (flipped, cut, zeroed, inflated, repeated)
        members[number] = (name, ways[int(dice.integers(len(ways)))](data, dice))
    target = io.BytesIO()
    packing = zipfile.ZIP_DEFLATED if dice.random() < 0.2 else zipfile.ZIP_STORED
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(target, "w", packing) as new:
        for name, data in members:
            new.writestr(name, data)
    return target.getvalue()


def _lying_npy(data: bytes, dice: Dice) -> bytes:
    """A .npy member whose header claims another shape or type."""
    size = struct.unpack_from("<H", data, 8)[0]
    kind = ["<f4", ">f8", "|O", "<U9", "<c16", "|S0", "|V8", "<M8[ns]", "|b1", "<f2", "<i8"][int(dice.integers(11))]
    shape = [(5, 4), (2**40,), (0,), (), (-1, 4), (2**31, 2**31), (2**63, 2), (5,), (5, 4, 1, 1)][int(dice.integers(9))]
    text = f"{{'descr': '{kind}', 'fortran_order': {bool(dice.integers(2))}, 'shape': {shape}, }}".encode()
    return data[:8] + struct.pack("<H", size) + text.ljust(size - 1)[: size - 1] + b"\n" + data[10 + size :]


def header(content: bytes, dice: Dice) -> bytes:
    """The JSON header of a safetensors file with other types, shapes and offsets."""
    size = struct.unpack_from("<Q", content)[0]
    table = json.loads(content[8 : 8 + size])
    entry = table["w"]
    value: object = NUMBERS[int(dice.integers(len(NUMBERS)))]
    way = int(dice.integers(8))
    if way == 0:
        entry["shape"] = [value, 4]
    elif way == 1:
        entry["data_offsets"] = [0, value] if dice.random() < 0.5 else [value, 48]
    elif way == 2:
        entry["dtype"] = ["F64", "I8", "BF16", "X", 3, None, ["F32"]][int(dice.integers(7))]
    elif way == 3:
        del entry[["dtype", "shape", "data_offsets"][int(dice.integers(3))]]
    elif way == 4:
        table = {"w": [entry], "__metadata__": value}  # type: ignore[dict-item]
    elif way == 5:
        table["v"] = dict(entry)  # two tensors on the same bytes
    elif way == 6:
        entry["shape"] = [[3], "4"]
    text = DEEP.encode() if way == 7 else json.dumps(table).encode()
    length = len(text) if dice.random() < 0.8 else int(dice.choice([0, 2**40, 2**63 - 1, len(text) + 1]))
    return struct.pack("<Q", length) + text + content[8 + size :]


def xml(content: bytes, dice: Dice) -> bytes:
    """Numbers in attributes made huge, negative or no numbers; elements missing, doubled, nested; entities that multiply."""
    way = int(dice.integers(6))
    if way == 0:
        bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
        return f'<!DOCTYPE x [<!ENTITY e0 "ha">{bomb}]><VTKFile>&e11;</VTKFile>'.encode() + content
    if way == 1:
        return b"<VTKFile>" * 100_000 + content
    places = (
        [*re.finditer(rb'(-?\d+(?:\.\d+)?)(?=["\s])', content[:20_000])] if way < 5 else [*re.finditer(rb"<[A-Za-z]+", content)]
    )
    if not places:
        return flipped(content, dice)
    spot = places[int(dice.integers(len(places)))]
    if way == 5:
        return (
            content[: spot.start()]
            + [b"<Piece", b"<!--", b"<X", b"</X", b"\x00"][int(dice.integers(5))]
            + content[spot.end() :]
        )
    value = str(NUMBERS[int(dice.integers(len(NUMBERS)))]).encode()
    return content[: spot.start()] + value + content[spot.end() :]
