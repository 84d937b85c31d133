"""Refusal of ONNX files that run more than plain operators, before ONNX Runtime sees them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.red_network import write_red_onnx
from maeseg.errors import UserError
from maeseg.models.spec_metadata import NETWORK_SPEC
from maeseg.prediction.onnx_backend import open_onnx
from maeseg.prediction.onnx_graph import check_graph

onnx = pytest.importorskip("onnx", reason="ONNX needs maeseg[onnx]")
pytest.importorskip("onnxruntime", reason="ONNX needs maeseg[onnx]")


def endless() -> Any:
    """A graph of no input that counts without an end: ONNX Runtime evaluates it when it opens the file."""
    flag, scalar = onnx.TensorProto.BOOL, onnx.TensorProto.INT64
    info, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    body = onnx.helper.make_graph(
        [node("Identity", ["on"], ["still"]), node("Identity", ["count"], ["counted"])],
        "body",
        [info("count", scalar, []), info("on", flag, [])],
        [info("still", flag, []), info("counted", scalar, [])],
    )
    always = onnx.helper.make_tensor("always", flag, [], [True])
    loop = node("Loop", ["", "always"], ["counts"], body=body)
    return onnx.helper.make_graph([loop], "endless", [], [info("counts", scalar, [None])], [always])


def with_branch(graph: Any) -> None:
    graph.node.extend(endless().node)


def with_subgraph(graph: Any) -> None:
    """An operator that should have no graph."""
    graph.node[0].attribute.append(onnx.helper.make_attribute("body", endless()))


def with_domain(graph: Any) -> None:
    graph.node[0].domain = "com.example"


def with_file(graph: Any) -> None:
    """A weight in another file, as an operator's attribute."""
    tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    graph.node.append(onnx.helper.make_node("Constant", [], ["w"], value=tensor))


@pytest.mark.parametrize(
    ("change", "named"),
    [(with_branch, "Loop"), (with_subgraph, "a graph of its own"), (with_domain, "com.example"), (with_file, "files")],
)
def test_what_exports_never_have_is_refused(change: Callable[[Any], None], named: str, tmp_path: Path) -> None:
    model = onnx.load(write_red_onnx(tmp_path / "red.onnx"))
    check_graph(model.SerializeToString())
    change(model.graph)
    with pytest.raises(UserError, match=f"red.onnx is not a network that ONNX Runtime can read .*{named}"):
        open_onnx(model.SerializeToString(), "red.onnx")


def test_an_endless_loop_and_functions_are_refused() -> None:
    model = onnx.helper.make_model(endless())
    with pytest.raises(ValueError, match="Loop"):
        check_graph(model.SerializeToString())
    model.functions.add(name="f")
    with pytest.raises(ValueError, match="functions"):
        check_graph(model.SerializeToString())


@pytest.mark.parametrize("depth", [100, 600, 900, 100_000])
def test_deep_metadata(depth: int, tmp_path: Path) -> None:
    deep = "[" * depth + "]" * depth
    for content in (deep, json.dumps({"task": 0}).replace("0", deep)):
        file = write_red_onnx(tmp_path / "red.onnx", metadata={NETWORK_SPEC: content})
        with pytest.raises(UserError, match=r"red.onnx does not describe its network"):
            open_onnx(file, "red.onnx")


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(UserError, match=r"pipe.onnx cannot be read .it is a pipe"):
        open_onnx(tmp_path / "pipe.onnx", "pipe.onnx")
