"""Folding: what it does to a net is known before training, and layers without an int8 form are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tf_keras import Model, Sequential, layers

from edgetl.backbones.models import ModelSpec, build_classifier
from edgetl.core.errors import EXIT_TRAINING, TrainingError
from edgetl.graph.fold import Rewrite, check_folded, folding, preflight


def net(*planted: Any, before_pooling: bool = True) -> Any:
    """A small classifier with layers planted before its pooling, or between the pooling and the logits."""
    image = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, name="first")(image)
    for layer in planted if before_pooling else ():
        x = layer(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    for layer in () if before_pooling else planted:
        x = layer(x)
    return Model(image, layers.Dense(2, name="logits")(x))


def nested() -> Any:
    inner = layers.Input((6, 6, 4))
    return Model(inner, layers.ReLU()(inner), name="planted")


PLANTED = {
    "a model in the model": (nested, r"planted \(Functional\): it is a model inside the model; call its layers"),
    "code": (lambda: layers.Lambda(lambda x: x * 2, name="planted"), r"planted \(Lambda\): it has no int8 form"),
    "upsampling": (lambda: layers.UpSampling2D(name="planted"), r"planted \(UpSampling2D\): it has no int8 form"),
    "a transposed convolution, which is a Conv2D to Python": (
        lambda: layers.Conv2DTranspose(4, 3, name="planted"),
        r"planted \(Conv2DTranspose\): it has no int8 form",
    ),
    "dilation": (
        lambda: layers.Conv2D(4, 2, dilation_rate=2, name="planted"),
        r"planted \(Conv2D\): its dilation_rate is \(2, 2\)",
    ),
    "dilation of a depthwise kernel": (
        lambda: layers.DepthwiseConv2D(2, dilation_rate=2, name="planted"),
        r"planted \(DepthwiseConv2D\): its dilation_rate is",
    ),
    "dilation of a separable kernel": (
        lambda: layers.SeparableConv2D(4, 2, dilation_rate=2, name="planted"),
        r"planted \(SeparableConv2D\): its dilation_rate is",
    ),
    "groups": (lambda: layers.Conv2D(4, 1, groups=2, name="planted"), r"planted \(Conv2D\): its kernel has 2 groups"),
    "two depthwise kernels a channel": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, name="planted"),
        r"planted \(DepthwiseConv2D\): its depth_multiplier is 2",
    ),
    "two separable kernels a channel": (
        lambda: layers.SeparableConv2D(4, 3, depth_multiplier=2, name="planted"),
        r"planted \(SeparableConv2D\): its depth_multiplier is 2",
    ),
    "another activation": (
        lambda: layers.Conv2D(4, 1, activation="swish", name="planted"),
        r"planted \(Conv2D\): its activation is \w+; relu, relu6 and linear have",
    ),
    "an activation that is a layer": (
        lambda: layers.Conv2D(4, 1, activation=layers.LeakyReLU(), name="planted"),
        r"planted \(Conv2D\): its activation is LeakyReLU",
    ),
    "a leaky ReLU": (lambda: layers.LeakyReLU(name="planted"), r"planted \(LeakyReLU\): it has no int8 form"),
    "a ReLU with a slope": (
        lambda: layers.ReLU(negative_slope=0.1, name="planted"),
        r"planted \(ReLU\): its slope, threshold or max_value",
    ),
    "a ReLU with another limit": (lambda: layers.ReLU(4.0, name="planted"), r"planted \(ReLU\): its slope, threshold"),
    "channels first": (
        lambda: layers.MaxPooling2D(2, data_format="channels_first", name="planted"),
        r"planted \(MaxPooling2D\): its data_format is channels_first",
    ),
    "BatchNorm over rows": (
        lambda: layers.BatchNormalization(axis=1, name="planted"),
        r"planted \(BatchNormalization\): it normalizes axis 1",
    ),
    "a dense layer on an image": (
        lambda: layers.Dense(4, name="planted"),
        r"planted \(Dense\): its input has 4 axes; put GlobalAveragePooling2D before it",
    ),
    "a concatenation of rows": (
        lambda: lambda x: layers.Concatenate(axis=1, name="planted")([x, x]),
        r"planted \(Concatenate\): it joins along axis 1 of 4",
    ),
    "a sum of three": (
        lambda: lambda x: layers.Add(name="planted")([x, x, x]),
        r"planted \(Add\): it adds 3 tensors",
    ),
    "a sum that broadcasts": (
        lambda: lambda x: layers.Add(name="planted")([x, layers.MaxPooling2D(6)(x)]),
        r"planted \(Add\): its two tensors differ in shape",
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_layer_without_an_int8_form_is_refused_with_its_name_and_the_reason(kind: str) -> None:
    make, why = PLANTED[kind]
    with pytest.raises(TrainingError, match=why) as caught:
        preflight(net(make()))
    assert caught.value.exit_code == EXIT_TRAINING
    assert caught.value.fix
    assert len(caught.value.why.splitlines()) == 1, "nothing else in the net is at fault"


def test_a_layer_used_twice_is_refused() -> None:
    planted = layers.Conv2D(4, 3, padding="same", name="planted")
    with pytest.raises(TrainingError, match=r"planted \(Conv2D\): it is used more than once"):
        preflight(net(planted, planted))


@pytest.mark.parametrize(
    ("planted", "why"),
    [
        (layers.BatchNormalization(name="planted"), r"planted \(BatchNormalization\): its input is not an image"),
        (
            layers.Dense(2, activation="softmax", name="planted"),
            r"planted \(Dense\): its activation is softmax; .*the net's output is logits",
        ),
    ],
    ids=["BatchNorm of features", "softmax"],
)
def test_layers_that_do_not_belong_after_the_pooling_are_refused(planted: Any, why: str) -> None:
    with pytest.raises(TrainingError, match=why):
        preflight(net(planted, before_pooling=False))


def test_all_refused_layers_are_in_one_message() -> None:
    with pytest.raises(TrainingError, match="3 layers of the net cannot be quantized") as caught:
        preflight(net(layers.UpSampling2D(name="one"), nested_of(12), layers.LeakyReLU(name="three")))
    assert [line.split()[0] for line in caught.value.why.splitlines()] == ["one", "two", "three"]


def nested_of(size: int) -> Any:
    inner = layers.Input((size, size, 4))
    return Model(inner, layers.ReLU()(inner), name="two")


def test_keras_3_objects_are_refused_with_the_fix() -> None:
    keras = pytest.importorskip("keras", minversion="3")
    image = keras.Input((8, 8, 3))
    other = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image)))
    with pytest.raises(TrainingError, match="Keras 3 objects") as caught:
        preflight(other)
    assert "TF_USE_LEGACY_KERAS=1" in caught.value.fix


class Subclassed(Model):
    def call(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(
    "model", [lambda: Sequential([layers.Conv2D(2, 1, input_shape=(8, 8, 3))]), Subclassed], ids=["Sequential", "code"]
)
def test_only_functional_models_are_accepted(model: Any) -> None:
    with pytest.raises(TrainingError, match="only functional models can be quantized") as caught:
        preflight(model())
    assert "tf_keras.Model(" in caught.value.fix


def test_an_output_that_is_an_image_is_refused() -> None:
    image = layers.Input((8, 8, 3))
    with pytest.raises(TrainingError, match="the net's output has 4 axes"):
        preflight(Model(image, layers.Conv2D(2, 1)(image)))


def test_each_rewrite_names_the_layer_it_goes_into() -> None:
    image = layers.Input((8, 8, 3), name="image")
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name="padding")(image)
    x = layers.Conv2D(4, 3, strides=2, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(6.0, name="relu")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    y = layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)
    total = layers.Add(name="total")([x, y])
    z = layers.Activation("relu", name="lonely")(total)
    z = layers.BatchNormalization(name="alone")(layers.MaxPooling2D(2, 1, padding="same", name="pool")(z))
    joined = layers.Concatenate(name="joined")([z, total])
    model = Model(image, layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D(name="pooled")(joined)))
    assert {row.layer: (row.kind, row.rewrite) for row in preflight(model)} == {
        "norm": ("BatchNormalization", "folded into convolution conv"),
        "relu": ("ReLU", "fused into conv"),
        "dropout": ("Dropout", "removed: it changes nothing when the net is used"),
        "separable": (
            "SeparableConv2D",
            "becomes depthwise convolution separable_depthwise and 1 x 1 convolution separable",
        ),
        "lonely": ("Activation", "stands alone: add total has other readers"),
        "alone": ("BatchNormalization", "becomes a 1 x 1 depthwise convolution"),
        "padding": ("ZeroPadding2D", "fused into convolution conv"),
    }
    assert isinstance(preflight(model)[0], Rewrite)


def test_vgg16_is_not_rewritten() -> None:
    assert preflight(build_classifier(ModelSpec("vgg16", 32, 2))) == []


def test_readers_behind_a_dropout_are_counted() -> None:
    """The convolution has two readers, one of them through a Dropout: its BatchNorm must not be folded into it."""
    image = layers.Input((8, 8, 3), name="image")
    first = layers.Conv2D(4, 3, name="first")(image)
    norm = layers.BatchNormalization(name="norm")(layers.Dropout(0.5)(first))
    total = layers.Add(name="total")([first, norm])
    model = Model(image, layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D(name="pooled")(total)))
    model.get_layer("norm").set_weights([np.full(4, 3.0), np.ones(4), np.zeros(4), np.ones(4)])
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)
    assert check_folded(model, folding(model).graph, images) < 1e-5


@pytest.mark.parametrize("settings", [{"center": False}, {"scale": False}, {"center": False, "scale": False}], ids=str)
def test_activations_inside_layers_and_batch_norms_without_parameters_are_folded(settings: dict[str, bool]) -> None:
    model = net(
        layers.Conv2D(4, 1, activation="relu", name="inside"),
        layers.BatchNormalization(**settings),
        layers.SeparableConv2D(5, 3, strides=2, padding="same", activation=tf.nn.relu6, name="separable"),
        layers.DepthwiseConv2D(2, use_bias=False),
        layers.BatchNormalization(**settings),
        layers.Activation("linear"),
        layers.Activation("relu6"),
    )
    random = np.random.default_rng(1)
    for layer in model.layers:
        weights = layer.get_weights()
        layer.set_weights([random.uniform(0.2, 1.5, array.shape) for array in weights])
    images = random.uniform(-3, 3, (2, 8, 8, 3)).astype(np.float32)
    assert check_folded(model, folding(model).graph, images) < 1e-5
