"""The restricted reader of torch's legacy files: it reads plain float tensors, nothing else, and runs no code.

The files are assembled from pickle opcodes: torch is not needed, and a hostile file is as easy to write as a good one.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgetl.backbones.torch_files import mobilenetv2_weights, read_state_dict
from edgetl.core.errors import EXIT_DATA, DataError

MAGIC = 0x1950A86A20F9469CFC6C


# --- pickle, protocol 2, as torch writes it (pickletools.dis shows it) -----------------------------------------------


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def many(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + many(*arguments) + b"R"


def mapping(items: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def listing(*values: bytes) -> bytes:
    return b"](" + b"".join(values) + b"e"


def storage(key: str, count: int, *, dtype: str = "FloatStorage", module: str = "torch", view: bytes = b"N") -> bytes:
    return many(text("storage"), name(module, dtype), text(key), text("cpu"), number(count), view) + b"Q"


def tensor(where: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    ordered = call(name("collections", "OrderedDict"))
    arguments = where, number(offset), many(*map(number, shape)), many(*map(number, strides)), b"\x89", ordered
    return call(name("torch._utils", "_rebuild_tensor_v2"), *arguments)


def legacy_file(
    tensors: dict[str, bytes], storages: dict[str, np.ndarray], *, magic: int = MAGIC, state: bytes | None = None
) -> bytes:
    """The five pickles and the raw storages."""
    parts = [pickled(number(magic)), pickled(number(1001)), pickled(mapping({"little_endian": b"\x88"}))]
    parts += [pickled(mapping(tensors) if state is None else state), pickled(listing(*map(text, storages)))]
    parts += [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join(parts)


@pytest.fixture
def read(tmp_path: Path):
    def run(data: bytes) -> dict[str, np.ndarray]:
        (tmp_path / "net.pth").write_bytes(data)
        return read_state_dict(tmp_path / "net.pth")

    return run


ELEVEN = np.arange(11, dtype="<f4")


def test_tensors_come_back_with_their_shapes_strides_and_offsets(read):
    whole = np.arange(24, dtype="<f4")
    tensors = {
        "rows": tensor(storage("0", 24), 0, (2, 3, 4), (12, 4, 1)),
        "turned": tensor(storage("0", 24), 0, (4, 6), (1, 4)),
        "tail": tensor(storage("0", 24), 20, (4,), (1,)),
        "scalar": tensor(storage("0", 24), 5, (), ()),
        "count": tensor(storage("1", 1, dtype="LongStorage"), 0, (), ()),
        "empty": tensor(storage("2", 0), 0, (0,), (1,)),
        "none": b"N",
    }
    found = read(legacy_file(tensors, {"0": whole, "1": np.array([7], "<i8"), "2": np.zeros(0, "<f4")}))
    assert found.keys() == tensors.keys() - {"none"}
    assert np.array_equal(found["rows"], whole.reshape(2, 3, 4))
    assert np.array_equal(found["turned"], whole.reshape(6, 4).T)
    assert found["tail"].tolist() == [20, 21, 22, 23] and found["scalar"] == 5 and found["empty"].shape == (0,)
    assert found["count"] == 7 and found["count"].dtype == np.int64


def test_tensors_are_copies_that_can_be_written_to(read):
    found = read(
        legacy_file(
            {"a": tensor(storage("0", 11), 0, (11,), (1,)), "b": tensor(storage("0", 11), 0, (11,), (1,))},
            {"0": ELEVEN},
        )
    )
    found["a"][:] = -1
    assert np.array_equal(found["b"], ELEVEN)


MARKER = "edgetl-was-here"
HOSTILE = {
    "os.system": lambda marker: call(name("os", "system"), text(f"touch {marker}")),
    "posix.system": lambda marker: call(name("posix", "system"), text(f"touch {marker}")),
    "builtins.exec": lambda marker: call(name("builtins", "exec"), text(f"open({marker!r}, 'w')")),
    "builtins.getattr": lambda marker: call(
        name("builtins", "getattr"), name("torch", "FloatStorage"), text("newbyteorder")
    ),
    "numpy.load": lambda marker: call(name("numpy", "load"), text(marker)),
    "torch.load": lambda marker: call(name("torch", "load"), text(marker)),
    "subprocess.Popen": lambda marker: call(name("subprocess", "Popen"), text(f"touch {marker}")),
    "a dotted name": lambda marker: name("collections", "OrderedDict.fromkeys"),
    "another thing of collections": lambda marker: name("collections", "namedtuple"),
    "another thing of torch._utils": lambda marker: name("torch._utils", "_import_dotted_name"),
    "another storage": lambda marker: tensor(storage("0", 11, dtype="UntypedStorage"), 0, (11,), (1,)),
    "a storage of another module": lambda marker: tensor(storage("0", 11, module="evil"), 0, (11,), (1,)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_anything_but_plain_tensors_is_refused_and_no_code_runs(kind, read, tmp_path):
    marker = tmp_path / MARKER
    with pytest.raises(
        DataError, match=r"net\.pth is not a weight file in torch's legacy format that can be read safely"
    ) as caught:
        read(legacy_file({"a": HOSTILE[kind](str(marker))}, {"0": ELEVEN}))
    assert "refused: " in caught.value.why
    assert caught.value.exit_code == EXIT_DATA == 4
    assert not marker.exists()


@pytest.mark.parametrize("position", range(5), ids=["magic", "protocol", "system", "tensors", "storage keys"])
def test_code_is_refused_in_each_of_the_five_pickles(position, read, tmp_path):
    marker = tmp_path / MARKER
    evil = pickled(call(name("posix", "system"), text(f"touch {marker}")))
    parts = [pickled(number(MAGIC)), pickled(number(1001)), pickled(b"}"), pickled(mapping({})), pickled(b"]")]
    assert read(b"".join(parts)) == {}
    with pytest.raises(DataError, match=r"refused: posix\.system"):
        read(b"".join([*parts[:position], evil, *parts[position + 1 :]]))
    assert not marker.exists()


OUTSIDE = {
    "past the end": (0, (12,), (1,)),
    "past the end by its offset": (1, (11,), (1,)),
    "past the end by its stride": (0, (6,), (3,)),
    "before the start": (-1, (2,), (1,)),
    "backwards": (10, (11,), (-1,)),
    "a size below nothing": (0, (100, -3), (1, 50)),
    "one element shown a billion times": (0, (1_000_000_000,), (0,)),
    "a terabyte out of eleven elements": (0, (1 << 20, 1 << 20), (0, 0)),
    "a stride past any address": (0, (1,), (1 << 70,)),
    "an offset past any address": (1 << 70, (1,), (1,)),
    "fewer strides than sizes": (0, (2, 2), (1,)),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_tensor_past_the_end_of_its_storage_is_refused(kind, read):
    offset, shape, strides = OUTSIDE[kind]
    with pytest.raises(DataError, match="can be read safely"):
        read(legacy_file({"a": tensor(storage("0", 11), offset, shape, strides)}, {"0": ELEVEN}))


GOOD = legacy_file({"a": tensor(storage("0", 11), 0, (11,), (1,))}, {"0": ELEVEN})
BROKEN = {
    "empty": b"",
    "text": b"hello",
    "another magic number": legacy_file({}, {}, magic=MAGIC + 1),
    "cut in the elements": GOOD[:-1],
    "cut before the elements": GOOD[: -11 * 4 - 3],
    "cut in a pickle": GOOD[:60],
    "fewer elements than the storage has": legacy_file(
        {"a": tensor(storage("0", 11), 0, (11,), (1,))}, {"0": ELEVEN[:10]}
    ),
    "elements of a storage that nobody has": legacy_file({}, {"0": ELEVEN}),
    "a storage that never came": legacy_file({"a": tensor(storage("0", 11), 0, (11,), (1,))}, {}),
    "a storage of too many elements": legacy_file({"a": tensor(storage("0", 1 << 40), 0, (1,), (1,))}, {"0": ELEVEN}),
    "a storage of less than none": legacy_file({"a": tensor(storage("0", -1), 0, (1,), (1,))}, {"0": ELEVEN}),
    "a storage that views another": legacy_file(
        {"a": tensor(storage("0", 11, view=text("1")), 0, (11,), (1,))}, {"0": ELEVEN}
    ),
    "a state that is a number": legacy_file({}, {}, state=number(3)),
    "storage keys that are none": b"".join(
        [pickled(number(MAGIC)), pickled(b"N"), pickled(b"N"), pickled(b"}"), pickled(b"N")]
    ),
    "a tensor of a word": legacy_file(
        {"a": call(name("torch._utils", "_rebuild_tensor_v2"), text("x"), number(0), b")", b")")}, {}
    ),
    "shapes that are words": legacy_file(
        {
            "a": call(
                name("torch._utils", "_rebuild_tensor_v2"),
                storage("0", 11),
                number(0),
                many(text("x")),
                many(text("y")),
            )
        },
        {"0": ELEVEN},
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_bad_data_not_a_bug(kind, read):
    assert np.array_equal(read(GOOD)["a"], ELEVEN)
    with pytest.raises(DataError, match="can be read safely") as caught:
        read(BROKEN[kind])
    assert caught.value.why and "mobilenet_v2 .pth" in caught.value.fix


def test_a_file_cut_anywhere_is_refused(read):
    for length in range(len(GOOD)):
        with pytest.raises(DataError, match="can be read safely"):
            read(GOOD[:length])


def test_the_newer_zip_format_is_refused_and_the_fix_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "new.pth", "w") as file:
        file.writestr("archive/data.pkl", b"")
    with pytest.raises(DataError, match=r"new\.pth is not a weight file in torch's legacy format"):
        read_state_dict(tmp_path / "new.pth")


def test_a_missing_file_is_bad_data(tmp_path):
    with pytest.raises(DataError, match=r"gone\.pth"):
        read_state_dict(tmp_path / "gone.pth")


# --- the conversion ----------------------------------------------------------------------------------------------------

TORCH_MEAN, TORCH_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
EPSILON, MEAN, SCALE = 1e-3, 128.0, 127.5


def state_dict(width: int = 5) -> dict[str, np.ndarray]:
    """A net with torchvision's names and kinds of layers, narrow and random."""
    random = np.random.default_rng(0)
    state: dict[str, np.ndarray] = {"classifier.1.weight": np.zeros((2, 2), np.float32)}

    def layer(conv: str, norm: str, out: int, per_group: int, size: int) -> None:
        state[f"{conv}.weight"] = random.normal(size=(out, per_group, size, size)).astype(np.float32)
        for part in ("weight", "bias", "running_mean"):
            state[f"{norm}.{part}"] = random.normal(size=out).astype(np.float32)
        # Down to where the difference between the two epsilons is no small thing.
        state[f"{norm}.running_var"] = random.uniform(1e-4, 2, out).astype(np.float32)
        state[f"{norm}.num_batches_tracked"] = np.array(1)

    layer("features.0.0", "features.0.1", width, 3, 3)
    layer("features.1.conv.0.0", "features.1.conv.0.1", width, 1, 3)
    layer("features.1.conv.1", "features.1.conv.2", width, width, 1)
    for i in range(2, 18):
        layer(f"features.{i}.conv.0.0", f"features.{i}.conv.0.1", 6 * width, width, 1)
        layer(f"features.{i}.conv.1.0", f"features.{i}.conv.1.1", 6 * width, 1, 3)
        layer(f"features.{i}.conv.2", f"features.{i}.conv.3", width, 6 * width, 1)
    layer("features.18.0", "features.18.1", 8 * width, width, 1)
    return state


def convert(state: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    return mobilenetv2_weights(state, epsilon=EPSILON, mean=MEAN, scale=SCALE)


def test_every_layer_of_the_keras_net_gets_its_weights():
    weights = convert(state_dict())
    names = {
        "Conv1",
        "bn_Conv1",
        "Conv_1",
        "Conv_1_bn",
        "expanded_conv_depthwise",
        "expanded_conv_depthwise_BN",
        "expanded_conv_project",
        "expanded_conv_project_BN",
    }
    names |= {
        f"block_{i}_{part}{norm}"
        for i in range(1, 17)
        for part in ("expand", "depthwise", "project")
        for norm in ("", "_BN")
    }
    assert weights.keys() == names
    assert all(array.dtype == np.float32 for arrays in weights.values() for array in arrays)
    assert [array.shape for array in weights["Conv1"]] == [(3, 3, 3, 5)]
    assert [array.shape for array in weights["block_3_depthwise"]] == [(3, 3, 30, 1)]
    assert [array.shape for array in weights["block_3_project"]] == [(1, 1, 30, 5)]
    assert [array.shape for array in weights["block_3_project_BN"]] == [(5,)] * 4


def norm(x, gamma, beta, mean, variance, epsilon):
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def test_the_first_layer_computes_the_same_from_a_photo_on_another_scale():
    state = state_dict()
    patch = np.random.default_rng(1).uniform(0, 255, (3, 3, 3))
    torch_input = (patch / 255 - TORCH_MEAN) / TORCH_STD
    torch_norm = [
        state[f"features.0.1.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    ]
    wanted = norm(np.einsum("oihw,hwi->o", state["features.0.0.weight"], torch_input), *torch_norm, 1e-5)
    weights = convert(state)
    found = norm(np.einsum("hwio,hwi->o", weights["Conv1"][0], (patch - MEAN) / SCALE), *weights["bn_Conv1"], EPSILON)
    # float32 weights: 6e-8 of each of 27 products, over a deviation down to 0.01.
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("theirs", "ours", "sum_of"),
    [
        (("features.5.conv.0.0", "features.5.conv.0.1"), "block_4_expand", ("oihw,hwi->o", "hwio,hwi->o", (1, 1, 5))),
        (
            ("features.5.conv.1.0", "features.5.conv.1.1"),
            "block_4_depthwise",
            ("oihw,hwo->o", "hwoi,hwo->o", (3, 3, 30)),
        ),
        (("features.17.conv.2", "features.17.conv.3"), "block_16_project", ("oihw,hwi->o", "hwio,hwi->o", (1, 1, 30))),
        (
            ("features.1.conv.0.0", "features.1.conv.0.1"),
            "expanded_conv_depthwise",
            ("oihw,hwo->o", "hwoi,hwo->o", (3, 3, 5)),
        ),
    ],
    ids=["expand", "depthwise", "project", "the first depthwise"],
)
def test_a_layer_computes_the_same_as_torchs_with_another_epsilon(theirs, ours, sum_of):
    state = state_dict()
    torch_sum, keras_sum, shape = sum_of
    patch = np.random.default_rng(2).normal(size=shape)
    torch_norm = [
        state[f"{theirs[1]}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    ]
    wanted = norm(np.einsum(torch_sum, state[f"{theirs[0]}.weight"], patch), *torch_norm, 1e-5)
    weights = convert(state)
    found = norm(np.einsum(keras_sum, weights[ours][0], patch), *weights[f"{ours}_BN"], EPSILON)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    unchanged = [state[f"{theirs[1]}.weight"].astype(np.float32), *weights[f"{ours}_BN"][1:]]
    planted = norm(np.einsum(keras_sum, weights[ours][0], patch), *unchanged, EPSILON)
    # A variance of 2 at most: leaving gamma as it is costs 0.00099 / 4 of the deviation, ten times what is allowed above.
    assert not np.allclose(planted, wanted, rtol=1e-4), "a gamma that was not adapted would be seen"


@pytest.mark.parametrize("lacking", ["features.0.0.weight", "features.9.conv.1.1.running_var", "features.18.1.bias"])
def test_a_missing_tensor_is_named(lacking):
    state = state_dict()
    del state[lacking]
    with pytest.raises(DataError, match="not torchvision's mobilenet_v2") as caught:
        convert(state)
    assert lacking in caught.value.why


@pytest.mark.parametrize("misshapen", ["features.0.0.weight", "features.9.conv.1.1.running_var"])
def test_a_tensor_of_another_shape_is_refused(misshapen):
    state = state_dict()
    state[misshapen] = np.zeros((2, 2), np.float32)
    with pytest.raises(DataError, match="a tensor is missing or has another shape"):
        convert(state)
