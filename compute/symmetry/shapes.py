"""How elementwise operators, sums and pooling move the order of units, and what has no rule."""

from __future__ import annotations

from paraloss.compute.symmetry.axes import ONE, fix, free, product, still, unify
from paraloss.compute.symmetry.calls import Call, Value, broadcast, fix_all, fixed_like, free_like, value_of
from paraloss.compute.symmetry.layers import Rule
from paraloss.compute.symmetry.views import VIEWS, pieces_of


def elementwise(call: Call) -> Value:
    """Every number of the result comes from the numbers at its place."""
    shape = call.out_shape
    return broadcast(call, [(call.axes(node), call.shape(node)) for node in call.tensors()], shape)


def same(call: Call) -> Value:
    """The result has the axes of the first argument, whatever their order: a softmax, a copy."""
    return call.axes(call.first)


def constant(call: Call) -> Value:
    """A tensor of one number."""
    return free_like(call.out_shape)


def reduction(call: Call) -> Value:
    """Sums, means, variances: the order along the axes that go does not matter."""
    axes = call.axes(call.first)
    gone = set(call.dims()) if "dim" in call.given else set(range(len(axes)))
    kept = bool(call.given.get("keepdim"))
    found = tuple(ONE if k in gone else axis for k, axis in enumerate(axes) if kept or k not in gone)
    several = value_of(call.node)
    return [found for _ in several] if isinstance(several, (tuple, list)) else found


def extremes(call: Call) -> Value:
    """``max`` and ``min`` along a dimension also give the place, which depends on the order there."""
    if "other" in call.given:
        return elementwise(call)
    if "dim" not in call.given:
        return reduction(call)
    fix(call.axes(call.first)[call.dims()[0]])
    return reduction(call)


def pooling(call: Call) -> Value:
    """Places in the image keep their order, channels do not care."""
    name = str(call.node.target)
    places = next(digit for digit in (1, 2, 3) if f"{digit}d" in name)
    return _over_places(call, places)


def upsampling(call: Call) -> Value:
    """As pooling: every axis after the channels is a place."""
    return _over_places(call, len(call.out_shape) - 2)


def _over_places(call: Call, places: int) -> Value:
    axes, result = call.axes(call.first), value_of(call.node)
    fix_all(axes[-places:])
    found = (*axes[:-places], *(still(size) for size in call.out_shape[-places:]))
    return [found for _ in result] if isinstance(result, (tuple, list)) else found


def pixel_shuffle(call: Call) -> Value:
    """(channels)(places within a pixel)."""
    axes, factor = call.axes(call.first), int(call.given["upscale_factor"])
    channels = free(call.out_shape[-3])
    unify(axes[-3], product([channels, still(factor * factor)]))
    fix_all(axes[-2:])
    return (*axes[:-3], channels, *(still(size) for size in call.out_shape[-2:]))


def glu(call: Call) -> Value:
    """Two halves, the one gates the other."""
    axes, dim = call.axes(call.first), int(call.given.get("dim", -1)) % len(call.axes(call.first))
    half = call.out_shape[dim]
    one, other = pieces_of(axes[dim], [half, half])
    unify(one, other)
    return (*axes[:dim], one, *axes[dim + 1 :])


def running_sum(call: Call) -> Value:
    """Sums that depend on the order along a dimension."""
    axes = call.axes(call.first)
    fix(axes[int(call.given["dim"])])
    return axes


def roll(call: Call) -> Value:
    """Positions shifted along some dimensions, which keep their order."""
    axes = call.axes(call.first)
    for dim in call.dims("dims"):
        fix(axes[dim])
    return axes


def unknown(call: Call) -> Value:
    """Whatever has no rule: all that goes in and comes out keeps its order."""
    for node in call.tensors():
        fix_all(call.axes(node))
    return fixed_like(value_of(call.node))


def _names(text: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(text.split(), rule)


SHAPES: dict[str, Rule] = {
    **VIEWS,
    **_names(
        "dropout feature_dropout alpha_dropout feature_alpha_dropout contiguous clone to _to_copy type_as detach alias "
        "lift_fresh_copy softmax log_softmax _softmax _log_softmax zeros_like ones_like full_like empty_like",
        same,
    ),
    **_names(
        "relu6 hardswish hardsigmoid silu mish selu celu elu leaky_relu log_sigmoid softplus gelu relu add sub mul div where "
        "softsign tanhshrink square float_power rsub rrelu copy masked_fill",
        elementwise,
    ),
    **_names("zeros ones full empty new_zeros new_ones new_full new_empty", constant),
    **_names("mean sum amax amin var std prod all any logsumexp linalg_vector_norm norm var_mean std_mean nansum", reduction),
    **_names("max min", extremes),
    **_names(
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices",
        pooling,
    ),
    **_names(
        "upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d upsample_linear1d "
        "upsample_nearest3d upsample_trilinear3d",
        upsampling,
    ),
    **_names("cumsum cumprod", running_sum),
    **_names("roll flip", roll),
    **_names("cross_entropy_loss nll_loss nll_loss_nd one_hot", unknown),  # classes are known by number
    "pixel_shuffle": pixel_shuffle,
    "glu": glu,
}
