"""Cut a network at the borders of frozen blocks, so that what is below is computed once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import fx, nn

from taxon.models.backbones import Backbone, blocks

Tensors = tuple[torch.Tensor, ...]
_SAMPLES = 2


class Segment(nn.Module):
    """The network between two borders: tensors [N, ...] that cross one -> those of the next.

    It shares the network's own layers: what trains there, trains here. It is no child of
    another module and must not be switched between training and evaluation by itself.
    """

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, *tensors: torch.Tensor) -> Tensors:
        return cast(Tensors, self.layers(*tensors))


class _Whole(nn.Module):
    """A network as one segment."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Tensors:
        return (self.network(images),)


def cut(
    backbone: Backbone, features: nn.Module, counts: Sequence[int], images: torch.Tensor
) -> list[Segment] | None:
    """Cut a network below its last blocks.

    Args:
        features: images -> pooled features [N, F]; built around `backbone.module`.
        counts: how many of the last blocks lie above each border, falling (say 2, 0): the first
            segment ends where the last 2 blocks begin, the second one where none is left.
        images: a few normalised pictures, on which the segments are compared with the network.

    Returns:
        A segment a border, and one more up to the features unless the last count is 0; None
        where the network cannot be cut: its code depends on the pictures' values, or what
        crosses a border is not a tensor a picture.
    """
    above = [_names_above(backbone, count) for count in counts if count]
    if not above:
        return [Segment(_Whole(features))]
    try:
        graph, regions = _trace(features, _regions(backbone.module, above))
    except Exception:  # what tracing raises depends on the architecture's own code
        return None
    segments = [
        Segment(fx.GraphModule(features, _part(graph, regions, part)))
        for part in range(len(above) + 1)
    ]
    return segments if _same_features(features, segments, images) else None


def _names_above(backbone: Backbone, count: int) -> frozenset[str]:
    return frozenset(name for group in blocks(backbone)[-count:] for name in group)


def _regions(network: nn.Module, above: Sequence[frozenset[str]]) -> dict[int, int]:
    """By the id of a parameter: how many borders lie below it."""
    return {
        id(parameter): sum(name in names for names in above)
        for name, parameter in network.named_parameters()
    }


class _Tracer(fx.Tracer):
    """Looks only into modules that a border runs through."""

    def __init__(self, regions: dict[int, int]) -> None:
        super().__init__()
        self._regions = regions

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return len({self._regions[id(parameter)] for parameter in m.parameters()}) <= 1


def _trace(
    features: nn.Module, of_parameters: dict[int, int]
) -> tuple[fx.Graph, dict[fx.Node, int]]:
    """The graph, and each node's region: the highest among its parameters and its inputs."""
    arguments = list(inspect.signature(features.forward).parameters.values())
    # Options of the forward pass keep their defaults.
    fixed = {argument.name: argument.default for argument in arguments[1:]}
    graph = _Tracer(of_parameters).trace(features, concrete_args=fixed or None)
    regions: dict[fx.Node, int] = {}
    for node in graph.nodes:
        own = max((of_parameters[id(p)] for p in _parameters(features, node)), default=0)
        regions[node] = max([own, *(regions[source] for source in node.all_input_nodes)])
    return graph, regions


def _parameters(features: nn.Module, node: fx.Node) -> list[nn.Parameter]:
    if node.op == "call_module":
        return list(features.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        value: Any = features
        for name in str(node.target).split("."):
            value = getattr(value, name)
        return [value] if isinstance(value, nn.Parameter) else []
    return []


def _part(graph: fx.Graph, regions: dict[fx.Node, int], part: int) -> fx.Graph:
    """The graph of one region: from what crosses its lower border to what crosses its upper."""
    made = fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    if part:
        for node in _crossing(graph, regions, part):
            known[node] = made.placeholder(node.name)
    for node in graph.nodes:
        if node.op == "output":
            continue
        # Constants cross no border: each region reads them for itself.
        constant = node.op == "get_attr" and any(regions[user] == part for user in node.users)
        own = regions[node] == part and node.op != "get_attr"
        if constant or (own and not _is_spare(node)):
            known[node] = made.node_copy(node, known.__getitem__)
    last = part == max(regions.values())
    passed = (
        list(next(node for node in graph.nodes if node.op == "output").all_input_nodes)
        if last
        else _crossing(graph, regions, part + 1)
    )
    made.output(tuple(known[node] for node in passed))
    return made


def _is_spare(node: fx.Node) -> bool:
    """An option of the forward pass that was fixed; only its placeholder remains."""
    return node.op == "placeholder" and not node.users


def _crossing(graph: fx.Graph, regions: dict[fx.Node, int], border: int) -> list[fx.Node]:
    """The values from below a border that are used above it."""
    return [
        node
        for node in graph.nodes
        if regions[node] < border
        and node.op != "get_attr"
        and any(regions[user] >= border or user.op == "output" for user in node.users)
    ]


def _same_features(features: nn.Module, segments: Sequence[Segment], images: torch.Tensor) -> bool:
    """Whether the segments, one after the other, compute what the network computes."""
    sample = images[:_SAMPLES]
    was_training = {module: module.training for module in features.modules()}
    features.eval()
    try:
        with torch.no_grad():
            tensors: Tensors = (sample,)
            for segment in segments:
                tensors = segment(*tensors)
                if not all(torch.is_tensor(t) and len(t) == len(sample) for t in tensors):
                    return False
            return len(tensors) == 1 and torch.allclose(tensors[0], features(sample), atol=1e-5)
    finally:
        for module, training in was_training.items():
            module.training = training
