"""Make a wheel of the running edgetl, to install on a board.

edgetl is pure Python, so its wheel is a zip of its files and three metadata files (the wheel specification,
packaging.python.org/specifications/binary-distribution-format). No build tool is needed; an installed edgetl has none.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import tomllib
import zipfile

from edgetl.core.errors import MissingError
from edgetl.core.paths import package_root
from edgetl.core.version import __version__

# A fixed time gives the same bytes for the same files: environments on the board are kept under the digest.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def requirements() -> list[str]:
    """The dependencies of an edgetl that only runs models: without extras."""
    try:
        found = importlib.metadata.requires("edgetl") or []
    except importlib.metadata.PackageNotFoundError:
        project = package_root().parent / "pyproject.toml"
        if not project.is_file():
            raise MissingError(
                "edgetl's dependencies are unknown.",
                why="edgetl runs neither from an installation nor from a checkout",
                fix="pip install edgetl, and run the installed command",
            ) from None
        found = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    return [line for line in found if "extra ==" not in line]


def wheel_name() -> str:
    """The file name, as the specification defines it."""
    return f"edgetl-{__version__}-py3-none-any.whl"


def make_wheel() -> bytes:
    """The wheel's bytes. The targets and data set lists of an installed edgetl are left out: a board does not use them."""
    about = f"edgetl-{__version__}.dist-info"
    metadata = ["Metadata-Version: 2.1", "Name: edgetl", f"Version: {__version__}", "Requires-Python: >=3.11"]
    metadata += [f"Requires-Dist: {line}" for line in requirements()]
    files = {
        f"edgetl/{path.relative_to(package_root()).as_posix()}": path.read_bytes()
        for path in sorted(package_root().rglob("*"))
        if path.is_file() and not {"__pycache__", "_data"} & set(path.relative_to(package_root()).parts)
    }
    files[f"{about}/METADATA"] = ("\n".join(metadata) + "\n").encode()
    files[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: edgetl\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""]).encode()
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, _LONG_AGO)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, data)
    return wheel.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
