"""A plan made ready to run: the engine, and one execution context per stream.

Contexts take their scratch memory from the caller. Left to itself, TensorRT would reserve for every context
what the greatest shape of the profile needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ercohort.errors import BackendError
from ercohort.gpu.flavour import Flavour

_DTYPES = {"FLOAT": np.float32, "HALF": np.float16}


def load_engine(flavour: Flavour, plan: bytes, *, runtime_cache: bytes = b"") -> LoadedEngine:
    """Load a plan on the current CUDA device.

    A plan that is damaged or not of this TensorRT and device can end the process: give only what
    `ercohort.gpu.engine_store` has found or built.

    Parameters
    ----------
    runtime_cache
        Kernels that TensorRT-RTX compiled in an earlier run, as `LoadedEngine.runtime_cache` returned them.

    Raises
    ------
    BackendError
        TensorRT refuses the plan, with its own words, or its tensors are not those of a detector.
    """
    mark = flavour.log.mark()
    runtime = flavour.module.Runtime(flavour.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise flavour.failure("cannot load the engine", mark)
    mode = flavour.module.TensorIOMode
    names: dict[Any, list[str]] = {mode.INPUT: [], mode.OUTPUT: []}
    for k in range(engine.num_io_tensors):
        name = engine.get_tensor_name(k)
        names[engine.get_tensor_mode(name)].append(name)
    if len(names[mode.INPUT]) != 1 or len(names[mode.OUTPUT]) != 1:
        raise BackendError(f"the engine's tensors are {names}; a detector has one input and one output")
    (source,), (result,) = names[mode.INPUT], names[mode.OUTPUT]
    kinds = [engine.get_tensor_dtype(name).name for name in (source, result)]
    if kinds[0] not in _DTYPES or kinds[1] != "FLOAT":
        raise BackendError(f"the engine's types are {' and '.join(kinds)}; export the detector anew")
    loaded = LoadedEngine(flavour, engine, runtime, source, result, np.dtype(_DTYPES[kinds[0]]))
    if flavour.is_rtx:
        loaded.keep_kernels(runtime_cache)
    return loaded


@dataclass(eq=False)
class LoadedEngine:
    """An engine on the device that was current when it was loaded.

    Attributes
    ----------
    input_name, output_name
        Its tensors.
    input_dtype
        float32 or float16: what the input has to be. The output is float32.
    """

    flavour: Flavour
    engine: Any
    runtime: Any  # has to outlive the engine
    input_name: str
    output_name: str
    input_dtype: np.dtype[Any]
    _config: Any = field(default=None, repr=False)
    _cache: Any = field(default=None, repr=False)

    def keep_kernels(self, runtime_cache: bytes) -> None:
        """Have TensorRT-RTX keep what it compiles, beginning with what an earlier run kept."""
        strategy = self.flavour.module.ExecutionContextAllocationStrategy.USER_MANAGED
        self._config = self.engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(strategy)
        self._cache = self._config.create_runtime_cache()
        if runtime_cache:
            # Whatever is not of this device and version is refused: then everything is compiled anew.
            self._cache.deserialize(runtime_cache)
        self._config.set_runtime_cache(self._cache)

    def runtime_cache(self) -> bytes:
        """Return what TensorRT-RTX compiled so far, for the next run; nothing with TensorRT itself."""
        kept = self._cache.serialize() if self._cache is not None else None
        return b"" if kept is None else bytes(kept)

    def context(self) -> EngineContext:
        """Make an execution context: one per stream, used by one caller at a time.

        Only the first of an engine is sure to have the profile by itself.

        Raises
        ------
        BackendError
            TensorRT cannot make it.
        """
        mark = self.flavour.log.mark()
        if self._config is not None:
            made = self.engine.create_execution_context(self._config)
        else:
            strategy = self.flavour.module.ExecutionContextAllocationStrategy.USER_MANAGED
            made = self.engine.create_execution_context(strategy)
        if made is None:
            raise self.flavour.failure("cannot make an execution context", mark)
        return EngineContext(self, made)


@dataclass(eq=False)
class EngineContext:
    """Runs an engine on one stream: `set_shape`, then `use_scratch` with that much memory, then `run`.

    TensorRT-RTX compiles kernels for every new shape, so a shape that stays is worth some empty rows.
    """

    engine: LoadedEngine
    context: Any

    def set_shape(self, batch: int, side: int) -> int:
        """Set the input's shape to (batch, 3, side, side).

        Returns
        -------
        Bytes of scratch memory that it needs, to be given to `use_scratch` before the next `run`.

        Raises
        ------
        BackendError
            The profile excludes the shape.
        """
        flavour = self.engine.flavour
        mark = flavour.log.mark()
        if not self.context.set_input_shape(self.engine.input_name, (batch, 3, side, side)):
            raise flavour.failure(f"does not take {batch} tiles of {side} px", mark)
        return max(0, int(self.context.update_device_memory_size_for_shapes()))

    def output_shape(self) -> tuple[int, int, int]:
        """Return tiles, 4 + classes and anchors of the output, for the shape that is set."""
        batch, rows, anchors = (int(k) for k in self.context.get_tensor_shape(self.engine.output_name))
        return batch, rows, anchors

    def use_scratch(self, address: int, n_bytes: int) -> None:
        """Give device memory, aligned to 256 bytes, that is the context's own until it is dropped."""
        self.context.set_device_memory(address, n_bytes)

    def run(self, stream: int, image: int, output: int) -> None:
        """Enqueue the network on a stream, from one device address to another; does not wait.

        Raises
        ------
        BackendError
            TensorRT refuses.
        """
        flavour = self.engine.flavour
        mark = flavour.log.mark()
        if not (
            self.context.set_tensor_address(self.engine.input_name, image)
            and self.context.set_tensor_address(self.engine.output_name, output)
            and self.context.execute_async_v3(stream)
        ):
            raise flavour.failure("failed on a batch", mark)
