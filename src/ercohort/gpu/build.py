"""From an FP16 ONNX detector to a TensorRT plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ercohort.errors import BackendError
from ercohort.gpu.flavour import Flavour
from ercohort.gpu.profile import Profile


@dataclass(frozen=True)
class BuiltPlan:
    """A serialised engine, and what was seen while it was built.

    Attributes
    ----------
    plan
        The engine.
    inputs, outputs
        Name, data type and shape of each tensor; -1 where a size is free.
    target
        What it was built for, in TensorRT's words.
    warnings
        What TensorRT warned of.
    timings
        The timing cache, for the next build; empty where the flavour keeps none.
    """

    plan: bytes
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    target: str
    warnings: list[str]
    timings: bytes


def build_plan(
    onnx: bytes, profile: Profile, flavour: Flavour, capability: tuple[int, int], *, timings: bytes = b""
) -> BuiltPlan:
    """Build an engine that computes in the types that the file states, for the sizes of a profile.

    Parameters
    ----------
    onnx
        Content of the FP16 file.
    capability
        Compute capability of the GPU. TensorRT itself builds for the GPU that is current, which must be one
        of these; TensorRT-RTX needs none.
    timings
        Timing cache of an earlier build.

    Raises
    ------
    BackendError
        TensorRT refuses the file, the profile or the device; with its own words.
    """
    trt = flavour.module
    mark = flavour.log.mark()
    try:
        builder = trt.Builder(flavour.logger)
        # Always on in TensorRT 11 and RTX; without it TensorRT 10 would choose the arithmetic by itself.
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        config = builder.create_builder_config()
    except TypeError:  # what the bindings make of a null pointer
        raise flavour.failure("does not start on this machine", mark) from None
    if network is None or config is None:
        raise flavour.failure("does not start on this machine", mark)
    _parse(onnx, network, flavour)
    _add_profile(builder, network, config, profile, flavour)
    target = flavour.aim(config, capability)
    cache = _load_timings(config, timings, flavour)
    begun = flavour.log.mark()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise flavour.failure("cannot build the engine", begun)
    return BuiltPlan(
        plan=bytes(plan),
        inputs=[_describe(network.get_input(k)) for k in range(network.num_inputs)],
        outputs=[_describe(network.get_output(k)) for k in range(network.num_outputs)],
        target=target,
        warnings=[line for _, line in flavour.log.since(mark)],
        timings=b"" if cache is None else bytes(cache.serialize()),
    )


def _parse(onnx: bytes, network: Any, flavour: Flavour) -> None:
    mark = flavour.log.mark()
    parser = flavour.module.OnnxParser(network, flavour.logger)
    if not parser.parse(onnx):
        raise flavour.failure("cannot read the ONNX file", mark)
    if network.num_inputs != 1 or network.num_outputs != 1:
        raise BackendError(
            f"the detector has {network.num_inputs} inputs and {network.num_outputs} outputs; "
            "export it with one of each, its raw head"
        )
    batch, _, height, width = network.get_input(0).shape
    if (batch, height, width) != (-1, -1, -1):
        raise BackendError(
            f"the detector takes {batch} x {height} x {width} px only; export it with dynamic=True"
        )


def _add_profile(builder: Any, network: Any, config: Any, profile: Profile, flavour: Flavour) -> None:
    mark = flavour.log.mark()
    sizes = builder.create_optimization_profile()
    sizes.set_shape(network.get_input(0).name, *profile.shapes)  # says nothing, whatever is wrong
    if config.add_optimization_profile(sizes) < 0:
        raise flavour.failure(f"refuses the profile {profile}", mark)


def _load_timings(config: Any, timings: bytes, flavour: Flavour) -> Any:
    """Give the builder an earlier timing cache, or an empty one; None where the flavour keeps none."""
    if flavour.is_rtx:
        return None
    for content in (timings, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _describe(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.name.lower(), "shape": [int(k) for k in tensor.shape]}
