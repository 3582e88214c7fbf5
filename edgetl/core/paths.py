"""Where the package is, and the data that is installed with it."""

from __future__ import annotations

from pathlib import Path


def package_root() -> Path:
    """The folder `edgetl/` that this code was imported from."""
    return Path(__file__).parents[1]


def data_folder(name: str) -> Path:
    """A data folder of the package: inside the package if it was installed from a wheel, otherwise at the top of the checkout.

    name: "targets" or "calibration".
    """
    packaged = package_root() / "_data" / name
    return packaged if packaged.is_dir() else package_root().parent / name
