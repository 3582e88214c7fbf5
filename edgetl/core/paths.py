"""Where the package and the data that travel with it are."""

from __future__ import annotations

from pathlib import Path


def package_root() -> Path:
    """The folder `edgetl/` that this code was imported from."""
    return Path(__file__).parents[1]


def data_folder(name: str) -> Path:
    """A folder that ships with the package: inside it in a wheel, at the top level of a checkout.

    name: "targets" or "calibration".
    """
    packaged = package_root() / "_data" / name
    return packaged if packaged.is_dir() else package_root().parent / name
