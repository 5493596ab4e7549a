"""Reverse mode in Python: torch's own engine keeps a thread for each device, and has none for a GPU that is not there.

It calls the same nodes, each when it has all its gradients, so that all that a GPU would run in a backward pass is seen.
"""

from __future__ import annotations

import torch


def run_backward(outputs, gradients, retain_graph, create_graph, inputs, allow_unreachable=False, accumulate_grad=False):
    """In the place of ``torch.autograd.graph._engine_run_backward``, for graphs on one device without hooks."""
    pending: dict = {}  # node -> gradients of its outputs
    wanted = {_edge(tensor): k for k, tensor in enumerate(inputs)}
    found: list = [None] * len(inputs)
    for tensor, gradient in zip(outputs, gradients, strict=True):
        _add(pending, _edge(tensor), gradient)
    with torch.set_grad_enabled(create_graph):
        for node in _in_order([_edge(tensor)[0] for tensor in outputs]):
            given = pending.pop(node, None)
            if given is None:
                continue
            for number, gradient in given.items():
                if (node, number) in wanted:
                    found[wanted[node, number]] = gradient
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                if accumulate_grad and not inputs:
                    leaf.grad = given[0].detach() if leaf.grad is None else leaf.grad + given[0].detach()
                continue
            results = node(*(given.get(number) for number in range(len(node._input_metadata))))
            results = results if isinstance(results, tuple) else (results,)
            for edge, gradient in zip(node.next_functions, results, strict=True):
                if edge[0] is not None and gradient is not None:
                    _add(pending, edge, gradient)
    if not allow_unreachable and any(gradient is None for gradient in found):
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph")
    return tuple(found)


def _edge(tensor):
    """(node, number of its output) that ``tensor`` comes from."""
    node = tensor.grad_fn
    return (torch.autograd.graph.get_gradient_edge(tensor).node if node is None else node), tensor.output_nr


def _add(pending, edge, gradient):
    node, number = edge
    shape = node.variable.shape if hasattr(node, "variable") else node._input_metadata[number].shape
    gradient = gradient if gradient.shape == shape else gradient.sum_to_size(shape)  # of what was broadcast
    at_node = pending.setdefault(node, {})
    at_node[number] = gradient if number not in at_node else at_node[number] + gradient


def _in_order(roots):
    """All nodes behind ``roots``, each after all that lead to it."""
    done, order, stack = set(), [], [(root, False) for root in roots]
    while stack:
        node, left = stack.pop()
        if left:
            order.append(node)
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack.extend((following, False) for following, _ in node.next_functions if following is not None)
    return order[::-1]
