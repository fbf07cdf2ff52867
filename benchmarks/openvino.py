"""OpenVINO is a peer: a model becomes a graph with weights of 8 bits, which Intel's runtime runs.

`pip install openvino nncf` brings the runtime, and what rounds the weights. optimum-intel would
export the model and generate with it, but it wants transformers before 5.6. So the graph that it
exports is made here, with the keys and values as its state, and the loop is a plain one.
"""

import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from benchmarks import peers
from benchmarks.measure import seconds
from m2lib.model.vocabulary import PAD_ID

TURNS = 2  # OpenVINO and ours take turns, so that both have the machine's better moments
Way = Callable[[list[list[int]], int], object]
"""A way to write so many tokens for each prompt, all prompts at once."""


def measured(
    load: Callable[[], PreTrainedModel],
    prompts: list[list[int]],
    counts: Iterable[int],
    ours: Callable[[], dict[str, Way]],
) -> dict[str, dict[int, float]]:
    """Return the seconds of OpenVINO and of ours, by label, for the first 1, 4, ... prompts.

    All of them write as many tokens as the other peers, for all prompts at once. Without OpenVINO
    nothing is returned.
    load: gives a reduced model in float32, whose weights are rounded to 8 bits. ours: loads our
    ways.
    """
    if find_spec("openvino") is None or find_spec("nncf") is None:
        print("OpenVINO is left out: `pip install openvino nncf` brings it", flush=True)
        return {}
    ways = {"OpenVINO, 8 bits": OpenVino(load()).generate} | ours()
    durations: dict[str, dict[int, float]] = {label: {} for label in ways}
    for way in ways.values():
        way(prompts[:1], 2)  # warms up
    for count in counts:
        for turn in range(TURNS):
            for label, way in ways.items():
                work = partial(way, prompts[:count], peers.NEW_TOKENS)
                duration = seconds(work, torch.device("cpu"), warm=False)
                print(f"{label}, {count} series, turn {turn + 1}: {duration:.2f} s", flush=True)
                least_so_far = durations[label].get(count, duration)
                durations[label][count] = min(duration, least_so_far)
    return durations


class OpenVino:
    """A Llama or Qwen2 that OpenVINO runs on the CPU, with settings of its own choice but
    for the number of threads, which is ours.

    exact: compute in float32 with the model's own weights, to see that the graph is right.
    """

    def __init__(self, model: PreTrainedModel, exact: bool = False):
        # Both report to Intel what is done with them, unless their package for that is missing. A
        # None among the modules makes it so.
        modules: dict[str, Any] = sys.modules
        modules["openvino_telemetry"] = None
        import nncf
        import openvino

        graph = stateful_graph(model.cpu())
        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
        if exact:
            settings["EXECUTION_MODE_HINT"] = "ACCURACY"
        else:
            graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
        compiled = openvino.Core().compile_model(graph, "CPU", settings)
        self.request = compiled.create_infer_request()

    def generate(self, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        """Return greedy continuations of exactly so many tokens each, from a left-padded batch."""
        self.request.reset_state()
        width = max(map(len, prompts))
        tokens = np.full((len(prompts), width), PAD_ID)
        mask = np.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        positions = np.maximum(mask.cumsum(1) - 1, 0)
        rows: np.ndarray = np.arange(len(prompts), dtype=np.int32)
        new_columns = []
        for _ in range(new_tokens):
            (logits,) = self.request.infer([tokens, mask, positions, rows]).values()
            tokens = logits.argmax(1)[:, None]
            mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
            positions = positions[:, -1:] + 1
            new_columns.append(tokens)
        return np.hstack(new_columns).tolist()


def stateful_graph(model: PreTrainedModel) -> Any:
    """Return a model as OpenVINO's graph, which keeps the keys and values from call to call.

    It takes new tokens and their positions (rows, new), the mask of all tokens (rows, all), and the
    number of the row that each row continues (rows,), and gives logits (rows, 13). Where keys and
    values are a state that is gathered by these numbers, the runtime appends to them in place, in
    one operation with attention. The numbers are 32-bit integers, or it does not.
    """
    import openvino
    from openvino import opset13
    from openvino.passes import MakeStateful, Manager

    config = model.config
    tensors = 2 * config.num_hidden_layers  # keys and values
    heads = config.num_key_value_heads
    width = config.hidden_size // config.num_attention_heads
    # An example is traced: two rows of three tokens after five. Other sizes are as good.
    example = (
        torch.ones(2, 3, dtype=torch.long),  # new tokens
        torch.ones(2, 8, dtype=torch.long),  # mask
        torch.arange(5, 8).expand(2, 3),  # positions
        torch.arange(2, dtype=torch.int32),  # rows
        *[torch.zeros(2, heads, 5, width)] * tensors,
    )
    # The sizes of the same inputs, in which -1 is any number.
    sizes = [
        [-1, -1],
        [-1, -1],
        [-1, -1],
        [-1],
        *[[-1, heads, -1, width]] * tensors,
    ]
    input_shapes = [openvino.PartialShape(input_size) for input_size in sizes]
    with warnings.catch_warnings(action="ignore"), torch.no_grad():  # of what tracing fixes
        graph = openvino.convert_model(_Step(model), example_input=example, input=input_shapes)
    state_inputs = [port.node for port in graph.inputs[4:]]
    state_outputs = [port.node for port in graph.outputs[1:]]
    passes = Manager()
    passes.register_pass(MakeStateful(list(zip(state_inputs, state_outputs, strict=True))))
    passes.run_passes(graph)

    # At first the state has no columns, and as many rows as there are prompts.
    shape = opset13.shape_of(graph.inputs[0])
    rows = opset13.gather(shape, opset13.constant([0]), opset13.constant(0))
    size = opset13.concat([rows, opset13.constant([heads, 0, width])], axis=0)
    empty_state = opset13.broadcast(opset13.constant(np.float32(0)), size)
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([empty_state.output(0)])
    graph.validate_nodes_and_infer_types()
    return graph


class _Step(nn.Module):
    """A model whose keys and values go in and come out as tensors, as a graph has them."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        rows: torch.Tensor,
        *past: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Return the logits of the last token, and the longer keys and values."""
        columns = torch.arange(mask.shape[1])
        queries = columns[mask.shape[1] - tokens.shape[1] :]
        is_past = columns <= queries[:, None]  # (new, all)
        is_visible = is_past & mask.bool()[:, None, None, :]  # (rows, 1, new, all)
        # Not minus infinity, because a pad on the left sees nothing at all.
        lowest = torch.finfo(torch.float32).min
        bias = torch.zeros(is_visible.shape).masked_fill(~is_visible, lowest)
        cache = _Cache([tensor.index_select(0, rows) for tensor in past])
        logits = self.model(
            tokens, attention_mask=bias, position_ids=positions, cache=cache, logits_to_keep=1
        ).logits
        return logits[:, 0], *cache.tensors


class _Cache:
    """Keys and values of all layers, layer by layer; transformers' attention calls `update`."""

    def __init__(self, tensors: list[torch.Tensor]):
        self.tensors = tensors

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, **_: Any
    ) -> list[torch.Tensor]:
        """Append a layer's new keys and values, and return all of its."""
        place = slice(2 * layer, 2 * layer + 2)
        longer = []
        for old, new in zip(self.tensors[place], (keys, values), strict=True):
            longer.append(torch.cat([old, new], dim=2))
        self.tensors[place] = longer
        return longer
