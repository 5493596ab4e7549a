"""How layers with weights move the order of units: convolutions, products of matrices, normalization, attention, embeddings."""

from __future__ import annotations

from collections.abc import Callable

from paraloss.compute.symmetry.axes import ONE, Axis, fix, free, keep_blocks, product, still, unify
from paraloss.compute.symmetry.calls import Call, Value, broadcast, fix_all

Rule = Callable[[Call], Value]


def convolution(call: Call, transposed: bool = False) -> Value:
    """Output channels are those of the weights, input channels those of the input; with groups (groups)(channels) each."""
    source, weight, bias = call.given["input"], call.given["weight"], call.given.get("bias")
    groups, kernel = int(call.given.get("groups") or 1), len(call.shape(weight)) - 2
    transposed = transposed or bool(call.given.get("transposed"))
    inputs, (first, second, *places) = call.axes(source), call.axes(weight)
    fix_all(tuple(places))
    fix_all(inputs[-kernel:])
    channels = inputs[-kernel - 1]
    if groups == 1:
        unify(channels, first if transposed else second)
        out = second if transposed else first
    else:
        many, sizes = free(groups), call.shape(weight)
        into, outof = (sizes[0] // groups, sizes[1]) if transposed else (sizes[1], sizes[0] // groups)
        inner, outer = free(into), free(outof)
        unify(channels, product([many, inner]))
        unify(first, product([many, inner if transposed else outer]))
        unify(second, outer if transposed else inner)
        out = product([many, outer])
    if call.is_tensor(bias):
        unify(out, call.axes(bias)[0])
    return (*inputs[: -kernel - 1], out, *(still(size) for size in call.out_shape[-kernel:]))


def linear(call: Call) -> Value:
    """Rows of the weights are the outputs, columns the inputs."""
    inputs, weight = call.axes(call.given["input"]), call.axes(call.given["weight"])
    unify(inputs[-1], weight[-1])
    out = weight[0] if len(weight) > 1 else None
    bias = call.given.get("bias")
    if out is not None and call.is_tensor(bias):
        unify(out, call.axes(bias)[-1])
    return inputs[:-1] if out is None else (*inputs[:-1], out)


def matmul(call: Call) -> Value:
    """Products of matrices in all their forms; ``addmm`` and ``baddbmm`` add another tensor."""
    tensors = [argument for argument in call.node.args if call.is_tensor(argument)]
    added, (one, other) = tensors[:-2], tensors[-2:]
    left, right = call.axes(one), call.axes(other)
    unify(left[-1], right[-2] if len(right) > 1 else right[0])
    batches = broadcast(
        call,
        [(left[:-2], call.shape(one)[:-2]), (right[:-2], call.shape(other)[:-2])],
        call.out_shape[: max(0, max(len(left), len(right)) - 2)],
    )
    ends = (*(left[-2:-1] if len(left) > 1 else ()), *(right[-1:] if len(right) > 1 else ()))
    found = (*batches, *ends)
    if added:
        return broadcast(call, [(found, call.out_shape), (call.axes(added[0]), call.shape(added[0]))], call.out_shape)
    return found


def einsum(call: Call) -> Value:
    """Axes of one letter are permuted together."""
    equation, tensors = str(call.node.args[0]).replace(" ", ""), list(call.node.args[1])  # type: ignore[arg-type, call-overload]
    left, _, right = equation.partition("->")
    letters: dict[str, Axis] = {}
    if "." in equation or "->" not in equation:
        raise NotImplementedError
    for names, tensor in zip(left.split(","), tensors, strict=True):
        for letter, axis, size in zip(names, call.axes(tensor), call.shape(tensor), strict=True):
            if size > 1 and letter in letters:
                unify(letters[letter], axis)
            elif size > 1:
                letters[letter] = axis
    return tuple(letters.get(letter, ONE) for letter in right)


def batch_norm(call: Call) -> Value:
    """One scale, shift and statistic each channel, the second axis."""
    inputs = call.axes(call.given["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        if call.is_tensor(call.given.get(name)):
            unify(inputs[1], call.axes(call.given[name])[0])
    return inputs


def layer_norm(call: Call) -> Value:
    """The last axes are normalized together: any order of them gives the same numbers."""
    inputs = call.axes(call.given["input"])
    for name in ("weight", "bias"):
        if call.is_tensor(call.given.get(name)):
            scale = call.axes(call.given[name])
            for axis, other in zip(inputs[-len(scale) :], scale, strict=True):
                unify(axis, other)
    return inputs


def group_norm(call: Call) -> Value:
    """As a batch norm; channels of one group stay together."""
    inputs, groups = call.axes(call.given["input"]), int(call.given["num_groups"])
    for name in ("weight", "bias"):
        if call.is_tensor(call.given.get(name)):
            unify(inputs[1], call.axes(call.given[name])[0])
    size = call.shape(call.given["input"])[1] // groups
    if size > 1:
        keep_blocks(inputs[1], size)
    return inputs


def channel_scale(call: Call) -> Value:
    """A PReLU: one slope, or one each channel."""
    inputs, slope = call.axes(call.first), call.given["weight"]
    if call.shape(slope) not in ((), (1,)):
        unify(inputs[min(1, len(inputs) - 1)], call.axes(slope)[0])
    return inputs


def weight_norm(call: Call) -> Value:
    """v g / ||v||, one g each slice along ``dim``."""
    direction, scale = call.axes(call.given["v"]), call.axes(call.given["g"])
    dim = int(call.given.get("dim") or 0)
    if call.shape(call.given["g"]) != () and len(scale) == len(direction):
        unify(direction[dim], scale[dim])
    return direction


def attention(call: Call) -> Value:
    """Features of queries meet those of keys, places of keys those of values."""
    names = ("query", "key", "value")
    query, key, value = (call.axes(call.given[name]) for name in names)
    shapes = [call.shape(call.given[name]) for name in names]
    unify(query[-1], key[-1])
    unify(key[-2], value[-2])
    if call.given.get("enable_gqa"):  # heads of the queries are (heads of the keys)(repetitions)
        repeats = free(shapes[0][-3] // shapes[1][-3])
        key, value = ((*one[:-3], product([one[-3], repeats]), *one[-2:]) for one in (key, value))
        shapes = [(*shape[:-3], shapes[0][-3], *shape[-2:]) for shape in shapes]
    found = broadcast(
        call, [(one[:-2], shape[:-2]) for one, shape in zip((query, key, value), shapes, strict=True)], call.out_shape[:-2]
    )
    mask = call.given.get("attn_mask")
    if call.is_tensor(mask):
        meets = (*found, query[-2], key[-2])
        broadcast(call, [(meets, (*call.out_shape[:-1], shapes[1][-2])), (call.axes(mask), call.shape(mask))],
                  (*call.out_shape[:-1], shapes[1][-2]))  # fmt: skip
    if call.given.get("is_causal"):
        fix_all((query[-2], key[-2]))
    return (*found, query[-2], value[-1])


def embedding(call: Call) -> Value:
    """Rows are looked up by number and keep their order."""
    weight, indices = call.axes(call.given["weight"]), call.axes(call.given["indices"])
    fix(weight[0])
    fix_all(indices)
    return (*indices, *weight[1:])


def _transposed(call: Call) -> Value:
    return convolution(call, transposed=True)


LAYERS: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "_convolution"), convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot", "vdot", "addmm", "baddbmm", "addmv"), matmul),
    **dict.fromkeys(("batch_norm", "instance_norm"), batch_norm),
    **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    "linear": linear,
    "einsum": einsum,
    "group_norm": group_norm,
    "prelu": channel_scale,
    "_weight_norm": weight_norm,
    "scaled_dot_product_attention": attention,
    "embedding": embedding,
}
READERS = {
    "conv1d",
    "conv2d",
    "conv3d",
    "convolution",
    "linear",
    "matmul",
    "mm",
    "bmm",
    "addmm",
    "scaled_dot_product_attention",
}
"""Operators whose inputs are what the next layer reads: the activations that are compared."""
