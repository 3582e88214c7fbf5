"""Which local file first weights would come from."""

from __future__ import annotations

import hashlib

import pytest

from edgetl.backbones.local_weights import look
from edgetl.core.errors import EXIT_MISSING, MissingError


@pytest.fixture
def keras_cache(tmp_path, monkeypatch):
    """put(name): a file in Keras' cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    folder = tmp_path / "keras" / "models"

    def put(*names: str):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text(name)
        return folder

    return put


def mobilenet(alpha: str, size: int) -> str:
    return f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}_no_top.h5"


def test_a_named_file_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(MissingError, match=r"There is no weight file .*gone\.h5") as caught:
        look("mobilenetv2-1.0", str(tmp_path / "gone.h5"), 160)
    assert caught.value.exit_code == EXIT_MISSING == 3


def test_a_named_file_goes_into_the_key_by_name_and_digest(tmp_path):
    (tmp_path / "net.h5").write_bytes(b"weights")
    options, file = look("mobilenetv2-1.0", str(tmp_path / "net.h5"), 160)
    assert file == tmp_path / "net.h5"
    assert options == {"weights": "file", "file": "net.h5", "sha256": hashlib.sha256(b"weights").hexdigest()}


def test_weights_none_ignores_the_cache(keras_cache):
    keras_cache(mobilenet("1.0", 160))
    assert look("mobilenetv2-1.0", "none", 160) == ({"weights": "none"}, None)


def test_an_empty_cache_is_not_an_error(keras_cache):
    assert look("mobilenetv2-1.0", "imagenet", 160) == (
        {"weights": "imagenet", "local": "", "sha256": ""},
        None,
    )


@pytest.mark.parametrize(
    ("size", "found"),
    [(160, 160), (96, 96), (32, 96), (97, 160), (128, 160), (190, 224), (512, 224)],
    ids=str,
)
def test_the_file_of_the_size_is_found_then_the_next_larger_then_the_largest(size, found, keras_cache):
    folder = keras_cache(*(mobilenet("0.35", trained) for trained in (96, 160, 224)), mobilenet("0.5", size))
    options, file = look("mobilenetv2-0.35", "imagenet", size)
    assert file == folder / mobilenet("0.35", found)
    assert options["local"] == file.name and options["sha256"] == hashlib.sha256(file.name.encode()).hexdigest()


@pytest.mark.parametrize("backbone", ["mobilenetv2-1", "mobilenetv2-1.0", "mobilenetv2-1.00"])
def test_a_width_is_found_however_it_is_written(backbone, keras_cache):
    folder = keras_cache(mobilenet("1.0", 224))
    assert look(backbone, "imagenet", 160)[1] == folder / mobilenet("1.0", 224)


def test_files_with_similar_names_are_ignored(keras_cache):
    keras_cache(mobilenet("1.0", 160) + ".part", mobilenet("1x0", 160), mobilenet("1.0", 160).replace("_no_top", ""))
    assert look("mobilenetv2-1.0", "imagenet", 160)[1] is None


@pytest.mark.parametrize("backbone", ["densenet121", "vgg16", "xception"])
def test_files_of_one_size_for_all_are_found(backbone, keras_cache):
    name = f"{backbone}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    folder = keras_cache(name)
    assert look(backbone, "imagenet", 160)[1] == folder / name
    assert look("densenet169", "imagenet", 160)[1] is None
