"""Embeddings: what the last layer is given, kept by content, weights, Prepare, arithmetic and view, never another's."""

import copy
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

import eyebright as eb
from eyebright.classifier import Classifier
from eyebright.data.augment import Augment
from eyebright.data.images import ImageFiles, Images
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.evaluation import embeddings
from eyebright.evaluation.embeddings import Embedder, View

MIRRORED = View(Augment(horizontal_flip=1.0), 1)


def make_backbone(name="resnet20_cifar", seed=0, number_format="float32", **prepare):
    plan = choose_plan("cpu", number_format, training=False)
    prepare = {"resize": 32, "crop": 32, "mean": (0.5,), "std": (0.25,)} | prepare
    classes = tuple(f"class {number}" for number in range(10))
    return Classifier(eb.create_model(name, num_classes=10, seed=seed), classes, Prepare(**prepare), {}, plan)


@pytest.fixture
def pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (21, 40, 36, 3), dtype=np.uint8)
    return Images(pixels, np.arange(21) % 3, ("a", "b", "c"))


@pytest.fixture
def computed(monkeypatch):
    """How many pictures went through a network, since."""
    counts = []
    original = Classifier.embeddings

    def count(self, inputs):
        counts.append(len(inputs))
        return original(self, inputs)

    monkeypatch.setattr(Classifier, "embeddings", count)
    return lambda: (sum(counts), counts.clear())[0]


def prepared(backbone, pictures):
    return torch.cat([backbone.prepare(pictures.read(i)) for i in range(len(pictures))])


def test_the_head_makes_the_logits_of_them(pictures):
    backbone = make_backbone()
    found = Embedder(backbone)(pictures)
    assert found.shape == (21, 64)
    assert found.dtype == np.float32
    with torch.inference_mode():
        logits = backbone.model.head(torch.from_numpy(found))
    torch.testing.assert_close(logits, backbone.logits(prepared(backbone, pictures)), atol=1e-6, rtol=1e-5)
    assert not backbone.model.head._forward_pre_hooks


def test_maps_for_a_head_that_flattens_them_are_others(pictures):
    """The same weights, found under another key: such a network does not pool."""
    found = {}
    for maps in (False, True):
        head = {"kind": "dense", "hidden": 4, "maps": maps, "input_size": 32}
        model = eb.create_model("resnet20_cifar", num_classes=10, seed=0, head=head)
        plain = make_backbone()
        found[maps] = Embedder(Classifier(model, plain.classes, plain.prepare, {}, plain.plan))(pictures)
    assert found[True].shape == (21, 64 * 8 * 8)
    averages = found[True].reshape(21, 64, 64).mean(axis=2)
    np.testing.assert_allclose(averages, found[False], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "googlenet", "inception_v3", "resnet18", "lenet5"])
def test_every_kind_of_network_gives_some(name, pictures):
    channels = 1 if name == "lenet5" else 3
    size = {"lenet5": 32, "inception_v3": 80}.get(name, 64)
    classes = tuple(f"class {number}" for number in range(10))
    model = eb.create_model(name, num_classes=10, seed=0)
    plan = choose_plan("cpu", "float32", training=False)
    backbone = Classifier(model, classes, Prepare(resize=(size, size), channels=channels), {}, plan)
    found = Embedder(backbone)(pictures)
    assert found.shape == (21, model.head.in_features)
    with torch.inference_mode():
        logits = model.head(torch.from_numpy(found))
    torch.testing.assert_close(logits, backbone.logits(prepared(backbone, pictures)), atol=1e-5, rtol=1e-4)


def test_one_does_not_depend_on_the_pictures_beside_it(pictures):
    backbone = make_backbone()
    whole = Embedder(backbone, keep=False)(pictures)
    alone = Embedder(backbone, keep=False)(pictures.select([5]))
    np.testing.assert_array_equal(whole[5], alone[0])


def test_a_second_time_nothing_is_computed(pictures, computed):
    backbone = make_backbone()
    first = Embedder(backbone)(pictures)
    assert computed() == 21
    ticks = []
    again = Embedder(make_backbone())(pictures.select(np.arange(20, -1, -1)), on_picture=lambda: ticks.append(1))
    assert computed() == 0
    assert len(ticks) == 21
    np.testing.assert_array_equal(again[::-1], first)


def test_only_what_is_missing_is_computed(pictures, computed):
    backbone = make_backbone()
    Embedder(backbone)(pictures.select(np.arange(15)))
    computed()
    found = Embedder(backbone)(pictures)
    assert computed() == 6
    np.testing.assert_array_equal(found, Embedder(backbone, keep=False)(pictures))


def test_the_head_may_be_another(pictures, computed):
    Embedder(make_backbone())(pictures)
    computed()
    other = make_backbone()
    other.model.replace_head(3)
    other = Classifier(other.model, ("a", "b", "c"), other.prepare, {}, other.plan)
    Embedder(other)(pictures)
    assert computed() == 0


def change_a_weight(backbone):
    with torch.no_grad():
        next(backbone.model.parameters())[0, 0, 1, 1] += 1e-3


def change_a_statistic(backbone):
    next(value for name, value in backbone.model.named_buffers() if name.endswith("running_mean"))[0] += 1e-3


def change_the_mean(backbone):
    backbone.prepare = backbone.prepare.model_copy(update={"mean": (0.4,)})


def change_the_size(backbone):
    backbone.prepare = backbone.prepare.model_copy(update={"resize": 40, "crop": 40})


def change_the_arithmetic(backbone):
    backbone.plan = choose_plan("cpu", "bfloat16", training=False)


@pytest.mark.parametrize(
    "change", [change_a_weight, change_a_statistic, change_the_mean, change_the_size, change_the_arithmetic]
)
def test_never_those_of_another(change, pictures, computed):
    before = Embedder(make_backbone())(pictures)
    other = make_backbone()
    change(other)
    computed()
    found = Embedder(other)(pictures)
    assert computed() == 21
    np.testing.assert_array_equal(found, Embedder(other, keep=False)(pictures))
    assert not np.array_equal(found, before)


def test_never_those_of_other_options(pictures, computed):
    """The same weights in a network whose nonlinearity is another."""
    Embedder(make_backbone())(pictures)
    model = eb.create_model("resnet20_cifar", num_classes=10, seed=0, nonlinearity="leaky_relu")
    other = copy.copy(make_backbone())
    other.model = model.eval()
    computed()
    Embedder(other)(pictures)
    assert computed() == 21


def test_never_those_of_another_view(pictures, computed):
    backbone = make_backbone()
    plain = Embedder(backbone)(pictures)
    mirrored = Embedder(backbone)(pictures, MIRRORED)
    assert computed() == 42
    flipped = Images(pictures.pixels[:, :, ::-1].copy(), pictures.labels, pictures.classes)
    np.testing.assert_allclose(mirrored, Embedder(backbone)(flipped), atol=1e-5)
    assert not np.array_equal(mirrored, plain)


def test_a_view_follows_from_its_number_and_the_picture(pictures):
    augment = Augment(random_resized_crop=(0.3, 0.9), horizontal_flip=0.5, brightness=0.4)
    embedder = Embedder(make_backbone(), keep=False)
    one, other = embedder(pictures, View(augment, 1)), embedder(pictures, View(augment, 2))
    np.testing.assert_array_equal(one[7], embedder(pictures.select([7]), View(augment, 1))[0])
    assert (np.abs(one - other).max(axis=1) > 1e-3).mean() > 0.9


def test_never_those_of_another_content(tmp_path, computed):
    """A file that was changed, and its size and time set back."""
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)
    backbone = make_backbone()
    files = ImageFiles((path,), np.zeros(1, dtype=np.int64), ("a",))
    before = Embedder(backbone)(files)
    computed()
    np.testing.assert_array_equal(Embedder(backbone)(files), before)
    assert computed() == 0
    Image.fromarray(255 - pixels).save(path, compress_level=0)
    found = Embedder(backbone)(files)
    assert computed() == 1
    assert not np.array_equal(found, before)
    renamed = tmp_path / "other name.png"
    path.rename(renamed)
    moved = ImageFiles((renamed,), np.zeros(1, dtype=np.int64), ("a",))
    np.testing.assert_array_equal(Embedder(backbone)(moved), found)
    assert computed() == 0


def test_a_damaged_file_is_made_anew(pictures, computed, own_cache):
    backbone = make_backbone()
    found = Embedder(backbone)(pictures)
    (path,) = own_cache.glob("embeddings/*/*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    computed()
    np.testing.assert_array_equal(Embedder(backbone)(pictures), found)
    assert computed() == 21


def test_many_files_become_one(pictures, computed, own_cache):
    backbone = make_backbone()
    for index in range(len(pictures)):
        Embedder(backbone)(pictures.select([index]))
    assert len(list(own_cache.glob("embeddings/*/*.safetensors"))) < embeddings.FILES
    computed()
    np.testing.assert_array_equal(Embedder(backbone)(pictures), Embedder(backbone, keep=False)(pictures))
    assert computed() == 21  # of the second


def test_an_interruption_loses_little(pictures, computed, monkeypatch):
    monkeypatch.setattr(embeddings, "KEPT_EVERY", 8)
    backbone, seen = make_backbone(), []

    def stop():
        seen.append(1)
        if len(seen) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Embedder(backbone)(pictures, on_picture=stop)
    computed()
    Embedder(backbone)(pictures)
    assert computed() == 5


def test_what_has_not_been_used_for_long_is_removed(pictures, computed, tmp_path, monkeypatch):
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path))
    old, other = make_backbone(), make_backbone(seed=1)
    Embedder(old)(pictures)
    (folder,) = (tmp_path / "embeddings").iterdir()
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(folder, (long_ago, long_ago))
    Embedder(old)(pictures)  # of use today
    Embedder(other)(pictures)
    assert computed() == 42
    assert folder.exists()
    os.utime(folder, (long_ago, long_ago))
    Embedder(other)(pictures)
    assert computed() == 0
    assert not folder.exists()
