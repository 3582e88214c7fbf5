from __future__ import annotations

from pathlib import Path

from edgetl.core.errors import DataError

FORMATS = {".tflite": "TFLite", ".onnx": "ONNX"}
# Flatbuffers and protobufs are limited to 2 GiB; data that they refer to in other files is not read.
LARGEST_BYTES = 2**31
COPY_AGAIN = "export the file again, or copy it again"


def check_there(path: Path, name: str) -> None:
    """Raises DataError for a path that does not exist or cannot be accessed."""
    try:
        path.stat()
    except FileNotFoundError:
        raise DataError(f"There is no file {name}.", fix="check the path") from None
    except OSError as error:
        raise DataError(f"{name} cannot be opened.", why=str(error.strerror), fix="check the path") from None


def check_path(path: Path, name: str) -> None:
    """The checks that need not open the file. Raises DataError."""
    check_there(path, name)
    if path.suffix not in FORMATS:
        raise DataError(
            f"{name} is not a model file by its name.",
            why=f"inspect reads {' and '.join(FORMATS)}, and bundle folders as `edgetl build` leaves them",
            fix="give such a file; if it is one, add the suffix to its name",
        )
    if not path.is_file():
        raise DataError(f"{name} is not a regular file.", fix="give a file on disk")
    if path.stat().st_size == 0:
        raise DataError(f"{name} is empty.", why="it has zero bytes", fix=COPY_AGAIN)
    if path.stat().st_size > LARGEST_BYTES:
        raise DataError(
            f"{name} is too large for one model file.",
            why=f"{FORMATS[path.suffix]} files have at most 2 GiB",
            fix=COPY_AGAIN,
        )
