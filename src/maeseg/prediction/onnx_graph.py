"""Check of an ONNX file before ONNX Runtime sees it: a graph of plain operators, as maeseg exports it.

ONNX Runtime evaluates parts of a graph when it opens a file, and cannot be interrupted: a loop without an end would
hang. It also opens other files that a tensor names.
"""

from collections.abc import Iterator
from typing import Any

LARGEST = 2**31
"""Bytes of a file: protobuf ends there."""

_OWN = ("", "ai.onnx")
_CONTROL = ("Loop", "If", "Scan", "SequenceMap")


def check_graph(content: bytes) -> None:
    """Refuse a graph with anything that maeseg's exports never have.

    These are control flow and other graphs inside an operator, functions, operators of other domains, and tensors in
    other files.

    Args:
        content: Content of an ONNX file.

    Raises:
        ValueError: It has one, or is no ONNX model.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, and others of its several implementations
        raise ValueError("it is damaged or no ONNX model") from error
    if model.functions or model.training_info:
        raise ValueError("it has functions or training graphs, which are refused")
    for node in model.graph.node:
        if node.domain not in _OWN:
            raise ValueError(f"its operator {node.domain}.{node.op_type} is not one of ONNX itself")
        if node.op_type in _CONTROL or any(each.HasField("g") or each.graphs for each in node.attribute):
            raise ValueError(f"its operator {node.op_type} runs a graph of its own, which may never end")
    if any(tensor.external_data or tensor.data_location == tensor.EXTERNAL for tensor in _tensors(model.graph)):
        raise ValueError("its weights are in other files, which are not opened")


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph without inner graphs."""
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for each in sparse:
        yield from (each.values, each.indices)
