"""Looking at an ONNX file from elsewhere in a process of its own, before anything trusts it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmearth.errors import ModelError, listed
from mmearth.models.child import answer, ask
from mmearth.models.onnx.runtime import open_session, reason

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto
    from onnxruntime import InferenceSession

    from mmearth.models.decoders.onnx import Output  # torch takes seconds to import

LARGEST_BYTES = 2 * 2**30  # of a file that holds all of its weights, by its format
LARGEST_METADATA = 2**22  # characters
SMALLEST_TILE, LARGEST_TILE = 16, 2048
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")  # operations that onnxruntime has itself
ONE = 1e-3  # how far a sum of probabilities may be from 1
# Largest numbers of the pictures that a file is tried out on: of the dark ones, of those of 8 bits,
# and of those of more. What is a probability must stay one on all of them.
SCALES = (0.0, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class Facts:
    """What a file was found to be.

    Attributes:
        bands: that it reads.
        tile: side of its tiles in pixels, None if it takes any.
        metadata: by name.
    """

    bands: int
    tile: int | None
    metadata: dict[str, str]


@dataclass(frozen=True)
class Behaviour:
    """What a file was found to compute.

    Attributes:
        classes: that it tells apart.
        output: what it gives; see ``OnnxNetwork``.
        bytes_per_pixel: of its feature maps, all of them.
        multiply_adds_per_pixel: of convolutions and products of matrices.
    """

    classes: int
    output: Output
    bytes_per_pixel: int
    multiply_adds_per_pixel: float


def refuse_large(path: Path) -> None:
    """Refuse a file that is too large to be ONNX, before it is read or copied.

    Raises:
        ModelError: if it is.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise ModelError(
            f"{path.name} has {path.stat().st_size / 2**30:.1f} GB; ONNX files have 2 GB at most.",
            "Obtain the file again.",
        )


def look_at(source: Path) -> Facts:
    """Look at a file in a child process, without running it.

    Raises:
        ModelError: if it is none that can be imported.
    """
    return Facts(**json.loads(ask(__name__, source)))


def try_out(
    source: Path, tile: int, mean: Sequence[float] = (), std: Sequence[float] = ()
) -> Behaviour:
    """Run a file in a child process on a few tiles.

    Args:
        source: the file; ``look_at`` has found it sound.
        tile: side of its tiles.
        mean: subtracted from random numbers from 0 to each of ``SCALES``, for each band.
        std: then divided by.

    Raises:
        ModelError: if it cannot be run, or does not give a map of classes.
    """
    options = json.dumps({"tile": tile, "mean": list(mean), "std": list(std)})
    return Behaviour(**json.loads(ask(__name__, source, options)))


def _read(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    refuse_large(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise _no_onnx(path) from error
    if not model.graph.node or not model.opset_import:
        raise _no_onnx(path)
    if any(_elsewhere(model)):
        raise ModelError(
            f"{path.name} was refused: it keeps its weights in other files.",
            "Ask its author for a single file. One that names others could read what it must not.",
        )
    known = {*DOMAINS, *(function.domain for function in model.functions)}
    foreign = {entry.domain for entry in model.opset_import} - known
    if foreign:
        raise ModelError(
            f"{path.name} was refused: it needs operations of {listed(sorted(foreign))}, which are "
            "not part of ONNX.",
            "Ask its author for a file of ONNX operations. Libraries of operations are programs, "
            "and are never loaded.",
        )
    if sum(len(entry.key) + len(entry.value) for entry in model.metadata_props) > LARGEST_METADATA:
        raise ModelError(f"The metadata of {path.name} are too long.", "Obtain the file again.")
    return model


def _no_onnx(path: Path) -> ModelError:
    return ModelError(f"{path.name} is no ONNX file, or is damaged.", "Obtain the file again.")


def _elsewhere(message: Any) -> Iterator[bool]:
    """Tell of each tensor, wherever it stands in a model, whether its numbers are elsewhere."""
    from onnx import TensorProto

    if isinstance(message, TensorProto):
        yield message.data_location == TensorProto.EXTERNAL or bool(message.external_data)
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if isinstance(value, Iterable) else (value,):
                yield from _elsewhere(part)


def _facts(path: Path) -> Facts:
    model = _read(path)
    session = open_session(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{path.name} has {len(inputs)} inputs and {len(outputs)} outputs; expected one each.",
            "Choose a model that reads one image and gives one map.",
        )
    shape = inputs[0].shape
    if inputs[0].type != "tensor(float)" or outputs[0].type != "tensor(float)" or len(shape) != 4:
        raise ModelError(
            f"{path.name} reads {inputs[0].type} of shape {shape} and gives {outputs[0].type}; "
            "expected float of shape [batch, bands, height, width].",
            "Choose a model that reads images.",
        )
    batch, bands, height, width = (size if isinstance(size, int) else None for size in shape)
    if bands is None or height != width or batch not in (None, 1):
        raise ModelError(
            f"{path.name} reads images of shape {shape}; expected a batch of one or any number, a "
            "fixed number of bands, and square tiles.",
            "Ask its author for such a file.",
        )
    if height is not None and not SMALLEST_TILE <= height <= LARGEST_TILE:
        raise ModelError(
            f"{path.name} reads tiles of {height} pixels; expected {SMALLEST_TILE} to "
            f"{LARGEST_TILE}.",
            "Choose a model that maps pixels, not whole images.",
        )
    return Facts(bands, height, metadata)


def _behaviour(path: Path, tile: int, mean: list[float], std: list[float]) -> Behaviour:
    model = _read(path)
    session = open_session(path)
    bands = session.get_inputs()[0].shape[1]
    shape = (1, bands, tile, tile)
    generator = np.random.default_rng(0)
    shift, factor = (
        np.reshape(values or [default], (-1, 1, 1)) for values, default in ((mean, 0), (std, 1))
    )
    ranges = []
    for scale in SCALES:
        picture = scale * generator.uniform(size=shape)
        found = _run(session, (picture - shift) / factor, path)
        maps = found.shape
        if len(maps) not in (3, 4) or maps[0] != 1 or maps[-2:] != (tile, tile):
            raise ModelError(
                f"{path.name} makes {list(maps)} of a tile of {tile} pixels; expected a class map "
                "of the same size.",
                "Choose a model for segmentation.",
            )
        classes = maps[1] if len(maps) == 4 else 1
        ranges.append(_Range.of(found, classes))
    output = _kind(_Range.around(ranges), classes, path)
    numel, multiply_adds = _cost(model, bands, tile)
    return Behaviour(
        max(2, classes),
        output,
        max(1, round(4 * numel / tile**2)),
        max(1.0, round(multiply_adds / tile**2)),
    )


def _run(session: InferenceSession, image: NDArray[np.float64], path: Path) -> NDArray[np.float32]:
    try:
        (found,) = session.run(None, {session.get_inputs()[0].name: image.astype(np.float32)})
    except Exception as error:  # onnxruntime's errors have no base of their own
        raise ModelError(
            f"{path.name} cannot compute a tile of {image.shape[-1]} pixels: {reason(error)}.",
            "Obtain the file again, or correct the size of tiles in its metadata.",
        ) from error
    return found


@dataclass(frozen=True)
class _Range:
    """What numbers a file gives.

    Attributes:
        least: smallest number.
        most: largest number.
        off: how far the sum over the classes is from 1, at most.
    """

    least: float
    most: float
    off: float

    @classmethod
    def of(cls, found: NDArray[np.float32], classes: int) -> _Range:
        sums = found.reshape(classes, -1).sum(axis=0, dtype=np.float64)
        return cls(float(found.min()), float(found.max()), float(np.abs(sums - 1).max()))

    @classmethod
    def around(cls, ranges: Sequence[_Range]) -> _Range:
        # Of numpy, since these keep what is no number.
        least = np.min([each.least for each in ranges])
        most, off = (np.max([getattr(each, name) for each in ranges]) for name in ("most", "off"))
        return cls(float(least), float(most), float(off))


def _kind(found: _Range, classes: int, path: Path) -> Output:
    finite = math.isfinite(found.least) and math.isfinite(found.most)
    shares = finite and found.least >= 0 and found.most <= 1 + ONE
    if classes > 1 and finite:
        if not shares:
            return "scores"
        return "probabilities" if found.off <= ONE else "independent"
    if not shares:
        raise ModelError(
            f"{path.name} gives numbers from {found.least:.3g} to {found.most:.3g}; expected the "
            "probability of a class, 0 to 1.",
            "Ask its author for a file with a sigmoid or softmax at its end.",
        )
    return "presence"


def _cost(model: ModelProto, bands: int, tile: int) -> tuple[int, float]:
    """Return numbers in all feature maps of a tile, and multiply-adds; of unknown shapes, none."""
    import onnx

    (image,) = [
        entry
        for entry in model.graph.input
        if entry.name not in {tensor.name for tensor in model.graph.initializer}
    ]
    sizes = (1, bands, tile, tile)
    for dimension, size in zip(image.type.tensor_type.shape.dim, sizes, strict=True):
        dimension.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        entry.name: [dimension.dim_value or 1 for dimension in entry.type.tensor_type.shape.dim]
        for entry in (image, *inferred.value_info, *inferred.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    maps = {name for node in model.graph.node for name in node.output}
    numel = sum(math.prod(shape) for name, shape in shapes.items() if name in maps)
    return numel, sum(_multiply_adds(node, shapes) for node in model.graph.node)


def _multiply_adds(node: NodeProto, shapes: Mapping[str, list[int]]) -> float:
    names = [*node.input[:2], *node.output[:1]]
    if any(name not in shapes for name in names):
        return 0
    if node.op_type in ("Conv", "ConvTranspose"):
        per = names[2] if node.op_type == "Conv" else names[0]
        return math.prod(shapes[per]) * math.prod(shapes[names[1]][1:])
    if node.op_type in ("MatMul", "Gemm"):
        return math.prod(shapes[names[2]]) * shapes[names[0]][-1]
    return 0


def main(arguments: list[str]) -> int:
    """Look at a file, and, given options, try it out, in the child process."""
    path = Path(arguments[0])

    def work() -> str:
        if len(arguments) == 1:
            return json.dumps(asdict(_facts(path)))
        return json.dumps(asdict(_behaviour(path, **json.loads(arguments[1]))))

    return answer(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
