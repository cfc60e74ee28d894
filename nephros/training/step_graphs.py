"""Training steps as CUDA graphs: a small network's kernels take longer to start than to run, and a graph starts all at once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

STEPS_BEFORE_RECORDING = 3
"""First steps of each batch shape that run as usual: they create what later ones reuse, and rare shapes aren't worth a graph."""
MAX_GRAPHS = 8
"""Most shapes that get a graph. A run has up to four: two sizes of balanced batches, as integers and, augmented, as floats."""

Tensors = tuple[Tensor, ...]
Step = Callable[..., Tensors]
"""Takes tensors and returns tensors. Whatever else it uses on the device, such as weights, stays at its place in memory."""

logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """How steps run and are recorded on a device."""

    def run(self, function: Callable[[], Tensors]) -> Tensors:
        """Call a function as usual, in a way that allows it to be recorded later."""

    def record(self, function: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        """Record what a function does, without doing it; return what replays it, and the tensors that will hold its outputs."""


class CudaRecorder:
    """Records CUDA graphs, which share memory, since they are never replayed at the same time."""

    def __init__(self, device: torch.device) -> None:
        # Autograd adds gradients on the stream where they were first computed, and a recording must not wait for another one:
        # so steps that run as usual and recordings share this stream.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.empty_cache()  # torch keeps the memory of graphs that are gone until then

    def run(self, function: Callable[[], Tensors]) -> Tensors:
        """Call the function on the stream that is used for recording."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = function()
        current.wait_stream(self._stream)
        return outputs

    def record(self, function: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        """Return the replay of a CUDA graph, and its outputs; RuntimeError for what can't be recorded."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._stream.device)
        # Not torch.cuda.graph, which collects garbage first: fine-tuning records many short runs.
        with torch.cuda.stream(self._stream):
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                outputs = function()
            finally:
                graph.capture_end()
        return graph.replay, outputs


class StepGraphs:
    """Steps that are recorded once for each shape of their inputs and then replayed.

    A step that can't be recorded runs as usual, and so do shapes beyond `MAX_GRAPHS`.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._graphs: dict[object, _Graph] = {}
        self._n_runs: Counter[object] = Counter()
        self._is_off = False

    def __len__(self) -> int:
        """Return the number of shapes that are recorded."""
        return len(self._graphs)

    def run(self, step: Step, *inputs: Tensor) -> Tensors:
        """Take a step, which must do the same in each call; return its outputs, as tensors that later steps don't overwrite."""
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        is_due = self._n_runs[shapes] >= STEPS_BEFORE_RECORDING and len(self._graphs) < MAX_GRAPHS and not self._is_off
        if is_due and shapes not in self._graphs:
            self._record(shapes, step, inputs)
        if shapes in self._graphs:
            return self._graphs[shapes].replay(inputs)
        self._n_runs[shapes] += 1
        return self._recorder.run(lambda: step(*inputs))

    def _record(self, shapes: object, step: Step, inputs: Tensors) -> None:
        static_inputs = tuple(torch.empty_like(tensor) for tensor in inputs)
        try:
            replay, outputs = self._recorder.record(lambda: step(*static_inputs))
        except RuntimeError as error:
            logger.warning("Steps take longer here, since they can't be recorded on the GPU: %s", error)
            self._is_off = True
            return
        self._graphs[shapes] = _Graph(static_inputs, replay, outputs)


class _Graph:
    """A recorded step, with the tensors that it reads and writes."""

    def __init__(self, inputs: Tensors, replay: Callable[[], None], outputs: Tensors) -> None:
        self._inputs, self._replay, self._outputs = inputs, replay, outputs

    def replay(self, inputs: Tensors) -> Tensors:
        """Take the step on other inputs."""
        for static, tensor in zip(self._inputs, inputs, strict=True):
            static.copy_(tensor)
        self._replay()
        return tuple(output.clone() for output in self._outputs)
