"""How views, cuts and joins move the order of units."""

from __future__ import annotations

from paraloss.compute.symmetry.axes import ONE, Axes, Axis, fix, free, product, size_of, still, unify
from paraloss.compute.symmetry.calls import Call, Value, fix_all, free_like, value_of
from paraloss.compute.symmetry.layers import Rule


def view(call: Call) -> Value:
    """The numbers in the same order under another shape."""
    axes, before, after = call.axes(call.first), call.shape(call.first), call.out_shape
    if 0 in before:
        return free_like(after)
    found: list[Axis] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start, first = i, j
        one = other = 1
        while i == start or j == first or one != other:
            if i < len(before) and (one <= other or j >= len(after)):
                one, i = one * before[i], i + 1
            elif j < len(after):
                other, j = other * after[j], j + 1
            else:
                break
        found += _regrouped(axes[start:i], after[first:j])
    return tuple(found)


def _regrouped(axes: Axes, sizes: tuple[int, ...]) -> list[Axis]:
    """Axes of ``sizes`` over the same positions as ``axes``."""
    whole = [axis for axis in axes if size_of(axis) > 1]
    if sum(size > 1 for size in sizes) == 1 and len(whole) == 1:
        return [whole[0] if size > 1 else ONE for size in sizes]
    parts = [free(size) for size in sizes]
    if whole:
        unify(product(whole), product(parts))
    return parts


def permute(call: Call) -> Value:
    """Dimensions change places."""
    axes = call.axes(call.first)
    return tuple(axes[dim % len(axes)] for dim in call.given["dims"])


def transpose(call: Call) -> Value:
    """Two dimensions change places."""
    axes = list(call.axes(call.first))
    if len(axes) > 1:
        one, other = (int(call.given.get(name, default)) for name, default in (("dim0", -2), ("dim1", -1)))
        axes[one], axes[other] = axes[other], axes[one]
    return tuple(axes)


def reverse_all(call: Call) -> Value:
    """``t`` and ``.T``."""
    return call.axes(call.first)[::-1]


def expand(call: Call) -> Value:
    """Where one position becomes many, they are all equal and may have any order."""
    axes, before, after = call.axes(call.first), call.shape(call.first), call.out_shape
    extra = len(after) - len(before)
    kept = [axis if old == new else free(new) for axis, old, new in zip(axes, before, after[extra:], strict=True)]
    return (*free_like(after[:extra]), *kept)


def repeat(call: Call) -> Value:
    """(repetitions)(positions)."""
    axes, after = call.axes(call.first), call.out_shape
    times = [int(k) for k in call.given["repeats" if "repeats" in call.given else "dims"]]
    extra = len(times) - len(axes)
    if extra < 0:
        raise NotImplementedError
    kept = [axis if k == 1 else product([free(k), axis]) for axis, k in zip(axes, times[extra:], strict=True)]
    return (*free_like(after[:extra]), *kept)


def repeat_interleave(call: Call) -> Value:
    """(positions)(repetitions)."""
    axes, dim, times = list(call.axes(call.first)), call.given.get("dim"), call.given.get("repeats")
    if dim is None or not isinstance(times, int):
        raise NotImplementedError
    axes[dim] = product([axes[dim], free(times)])
    return tuple(axes)


def cat(call: Call) -> Value:
    """One after the other along a dimension; the others meet."""
    parts = [part for part in call.first if 0 not in call.shape(part)]
    dim = int(call.given.get("dim") or 0) % len(call.out_shape)
    axes = [call.axes(part) for part in parts]
    joined = tuple(term for one in axes for term in one[dim])
    for k, axis in enumerate(axes[0]):
        for other in axes[1:] if k != dim else ():
            unify(axis, other[k])
    return (*axes[0][:dim], joined, *axes[0][dim + 1 :])


def stack(call: Call) -> Value:
    """A new dimension, which keeps its order; the others meet."""
    axes = [call.axes(part) for part in call.first]
    for k, axis in enumerate(axes[0]):
        for other in axes[1:]:
            unify(axis, other[k])
    dim = int(call.given.get("dim") or 0) % len(call.out_shape)
    return (*axes[0][:dim], still(len(axes)), *axes[0][dim:])


def split(call: Call) -> Value:
    """Cut along a dimension."""
    axes, dim = call.axes(call.first), int(call.given.get("dim") or 0) % len(call.axes(call.first))
    sizes = [int(part.shape[dim]) for part in value_of(call.node)]
    pieces = pieces_of(axes[dim], sizes)
    return [(*axes[:dim], piece, *axes[dim + 1 :]) for piece in pieces]


def unbind(call: Call) -> Value:
    """One tensor each position, which keep their order."""
    axes, dim = call.axes(call.first), int(call.given.get("dim") or 0) % len(call.axes(call.first))
    fix(axes[dim])
    return [(*axes[:dim], *axes[dim + 1 :]) for _ in value_of(call.node)]


def select(call: Call) -> Value:
    """One position of a dimension."""
    axes, dim = call.axes(call.first), int(call.given["dim"]) % len(call.axes(call.first))
    fix(axes[dim])
    return (*axes[:dim], *axes[dim + 1 :])


def slice_(call: Call) -> Value:
    """A run of positions; every second one where there is a step."""
    axes, dim = call.axes(call.first), int(call.given.get("dim") or 0) % len(call.axes(call.first))
    whole, left = call.shape(call.first)[dim], call.out_shape[dim]
    if whole == left:
        return axes
    if int(call.given.get("step") or 1) != 1:
        fix(axes[dim])
        return (*axes[:dim], still(left), *axes[dim + 1 :])
    start = int(call.given.get("start") or 0)
    start = max(0, start + whole if start < 0 else start)
    sizes = [start, left, whole - start - left]
    piece = pieces_of(axes[dim], [size for size in sizes if size])[int(start > 0)]
    return (*axes[:dim], piece, *axes[dim + 1 :])


def pieces_of(axis: Axis, sizes: list[int]) -> list[Axis]:
    """An axis cut into runs of ``sizes``."""
    pieces = [free(size) for size in sizes]
    unify(axis, tuple(term for piece in pieces for term in piece))
    return pieces


def pad(call: Call) -> Value:
    """Constants before and after; other ways to pad copy positions, which then keep their order."""
    axes, widths = list(call.axes(call.first)), [int(width) for width in call.given["pad"]]
    for number, (before, after) in enumerate(zip(widths[::2], widths[1::2], strict=True)):
        if before == after == 0:
            continue
        if min(before, after) < 0:
            raise NotImplementedError
        place = -number - 1
        if call.given.get("mode", "constant") != "constant":
            fix(axes[place])
        ends = [free(width) if width else () for width in (before, after)]
        axes[place] = (*ends[0], *axes[place], *ends[1])
    return tuple(axes)


def index(call: Call) -> Value:
    """Positions looked up by number, of neighboring dimensions."""
    axes, asked = call.axes(call.first), list(call.given["indices"])
    asked += [None] * (len(axes) - len(asked))
    places = [k for k, one in enumerate(asked) if one is not None]
    if places != list(range(places[0], places[-1] + 1)) or any(value_of(asked[k]).dtype.itemsize == 1 for k in places):
        raise NotImplementedError
    for k in places:
        fix(axes[k])
        fix_all(call.axes(asked[k]))
    new = len(call.out_shape) - (len(axes) - len(places))
    looked_up = call.out_shape[places[0] : places[0] + new]
    return (*axes[: places[0]], *map(still, looked_up), *axes[places[-1] + 1 :])


def index_select(call: Call) -> Value:
    """Positions of one dimension looked up by number."""
    axes, dim = call.axes(call.first), int(call.given["dim"])
    fix(axes[dim])
    return (*axes[:dim], still(call.out_shape[dim]), *axes[dim + 1 :])


VIEWS: dict[str, Rule] = {
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as"), view
    ),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "mT", "adjoint"), transpose),
    **dict.fromkeys(("t", "numpy_T"), reverse_all),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(("repeat", "tile"), repeat),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), split),
    **dict.fromkeys(("slice", "narrow"), slice_),
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    **dict.fromkeys(("cat", "concat"), cat),
    "permute": permute,
    "stack": stack,
    "unbind": unbind,
    "select": select,
    "repeat_interleave": repeat_interleave,
    "index": index,
    "index_select": index_select,
}
