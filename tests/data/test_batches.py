import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from eyebright.data.augment import Augment
from eyebright.data.batches import Loader, keep_ready
from eyebright.data.images import ImageFiles, Images
from eyebright.data.prepare import Prepare
from eyebright.data.prepared import PreparedFiles
from eyebright.device import Plan, choose_plan
from eyebright.errors import DataError, PictureError
from eyebright.random import generator

PLAN = choose_plan("cpu", "float32")
CLASSES = ("ant", "bee")
AUGMENT = Augment(random_crop=True, padding=2, horizontal_flip=0.5, rotation=10, brightness=0.2, hue=0.1, cutout=3)
ALL_OTHERS = Augment(
    random_resized_crop=(0.3, 1.0), alternating_flip=True, perspective=0.4, contrast=0.2, saturation=0.3,
    blur=(0.5, 1.0), rand_augment=(2, 9), erasing=0.5, mixup=0.5, cutmix=0.5,
)  # fmt: skip


def labels(count):
    return np.arange(count, dtype=np.int64) % 2


@pytest.fixture
def in_memory(noise):
    return Images(noise(22, 14, 12, 3), labels(22), CLASSES)


@pytest.fixture
def files(tmp_path, encode):
    """`files(pictures, "PNG")`: these pictures as files."""

    def make(pictures, kind="PNG", **options):
        paths = []
        for i, pixels in enumerate(pictures):
            paths.append(tmp_path / f"{i:03}.{kind.lower()}")
            paths[-1].write_bytes(encode(pixels, kind, **options))
        return ImageFiles(tuple(paths), labels(len(paths)), CLASSES)

    return make


@pytest.fixture
def of_all_sizes(noise, files):
    """Pictures of many sizes, some of them grey."""
    sizes = [(14, 12, 3), (9, 30, 3), (20, 20, 1), (8, 8, 3), (31, 10, 1), (16, 17, 3), (11, 11, 3)]
    return files([noise(*size, seed=i) for i, size in enumerate(sizes)])


def batches(pictures, prepare, *, first_step=0, epoch=0, **options):
    return list(Loader(pictures, prepare, PLAN, 4, **options).batches(epoch, first_step))


def equal(these, those):
    assert len(these) == len(those)
    return all(
        torch.equal(this.inputs, that.inputs)
        and torch.equal(this.labels, that.labels)
        and torch.equal(this.partner_labels, that.partner_labels)
        and this.share == that.share
        and np.array_equal(this.indices, that.indices)
        for this, that in zip(these, those, strict=True)
    )


def twin(pictures, prepare, order, step, augment=None, seed=0, epoch=0):
    """One batch of four, picture by picture."""
    indices = order[step * 4 : step * 4 + 4]
    if augment is None:
        return torch.cat([prepare(pictures.read(int(i))) for i in indices])
    random = generator(seed, "augment", epoch, step)
    resized = [torch.from_numpy(prepare.resize_picture(pictures.read(int(i)))) for i in indices]
    cropped = augment.crop_batch(resized, random, prepare)
    changed = augment.change_batch(cropped, random, prepare, seed=seed, epoch=epoch, indices=indices)
    mixture = augment.mix_batch(changed, random)
    return prepare.normalise(changed if mixture is None else mixture.pixels)


# what batches hold


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", ["in_memory", "of_all_sizes"])
def test_in_evaluation_every_picture_comes_once_in_order_and_prepared(request, source, workers):
    pictures, prepare = request.getfixturevalue(source), Prepare(resize=10, crop=8, mean=(0.5,), std=(0.5,))
    made = batches(pictures, prepare, workers=workers)
    assert np.concatenate([batch.indices for batch in made]).tolist() == list(range(len(pictures)))
    for step, batch in enumerate(made):
        assert batch.inputs.dtype == torch.float32
        assert torch.equal(batch.inputs, twin(pictures, prepare, np.arange(len(pictures)), step))
        assert batch.labels.tolist() == pictures.labels[batch.indices].tolist()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", ["in_memory", "of_all_sizes"])
@pytest.mark.parametrize("augment", [AUGMENT, ALL_OTHERS], ids=["some", "all others"])
def test_in_training_every_batch_is_what_the_slow_loop_makes(request, augment, source, workers):
    pictures, prepare = request.getfixturevalue(source), Prepare(resize=10, crop=8, mean=(0.5,), std=(0.5,))
    loader = Loader(pictures, prepare, PLAN, 4, augment=augment, shuffle=True, seed=3, workers=workers)
    order = torch.randperm(len(pictures), generator=generator(3, "order", 5)).numpy()
    made = list(loader.batches(epoch=5))
    assert len(made) == loader.steps
    for step, batch in enumerate(made):
        assert batch.indices.tolist() == order[step * 4 : step * 4 + 4].tolist()
        assert torch.equal(batch.inputs, twin(pictures, prepare, order, step, augment, 3, 5))
        assert batch.labels.tolist() == pictures.labels[batch.indices].tolist()


def test_nothing_is_mixed_in_unless_asked_for(in_memory):
    for options in ({}, {"augment": AUGMENT, "shuffle": True}):
        for batch in batches(in_memory, Prepare(crop=8), **options):
            assert batch.share == 1.0 and torch.equal(batch.partner_labels, batch.labels)


@pytest.mark.parametrize("option", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_pictures_are(option):
    """Each picture is of one value and its label is that value, so what is in a mixture can be read off."""
    values = np.arange(20, dtype=np.int64)
    pixels = np.broadcast_to(values.astype(np.uint8)[:, None, None, None] * 10, (20, 12, 12, 3))
    pictures = Images(pixels, values, tuple(map(str, values)))
    shares = []
    for epoch in range(5):
        options = {"augment": Augment(**{option: 1.0}), "shuffle": True, "epoch": epoch}
        for batch in batches(pictures, Prepare(), **options):
            mean = batch.inputs.mean(dim=(1, 2, 3)) * 25.5
            expected = batch.share * batch.labels + (1 - batch.share) * batch.partner_labels
            assert (mean - expected).abs().max() < 0.06
            assert batch.labels.tolist() == batch.indices.tolist()
            shares.append(batch.share)
    assert len(set(shares)) > 10 and min(shares) < 0.4 and max(shares) > 0.6


def test_in_two_epochs_alternating_flips_show_every_picture_both_ways(in_memory):
    shown = [{}, {}]
    for epoch in (0, 1):
        for batch in batches(in_memory, Prepare(), augment=Augment(alternating_flip=True), shuffle=True, epoch=epoch):
            shown[epoch] |= dict(zip(batch.indices.tolist(), batch.inputs, strict=True))
    assert len(shown[0]) == len(shown[1]) == 22
    plain = [batch.inputs for batch in batches(in_memory, Prepare())]
    for index, picture in enumerate(torch.cat(plain)):
        both = [shown[0][index], shown[1][index]]
        both = both if torch.equal(both[0], picture) else both[::-1]
        assert torch.equal(both[0], picture) and torch.equal(both[1], picture.flip(2))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_other_channels_are_converted(in_memory, channels):
    grey = Images(in_memory.pixels[..., :1], in_memory.labels, CLASSES)
    for pictures in (in_memory, grey):
        assert batches(pictures, Prepare(channels=channels))[0].inputs.shape == (4, channels, 14, 12)


def test_batches_lie_channels_last_in_memory(in_memory):
    for options in ({}, {"augment": AUGMENT, "shuffle": True}):
        batch = batches(in_memory, Prepare(crop=8), **options)[0]
        assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_evaluation_never_draws_a_random_number(in_memory):
    first = batches(in_memory, Prepare(crop=8), seed=0)
    assert equal(first, batches(in_memory, Prepare(crop=8), seed=1, epoch=7))


def test_augmentation_without_shuffling_keeps_the_order(in_memory):
    made = batches(in_memory, Prepare(crop=8), augment=AUGMENT)
    assert np.concatenate([batch.indices for batch in made]).tolist() == list(range(22))


def test_a_training_without_a_random_crop_cuts_the_centre_of_each_picture(of_all_sizes):
    prepare = Prepare(resize=10, crop=8)
    made = batches(of_all_sizes, prepare, augment=Augment(cutout=1))
    expected = batches(of_all_sizes, prepare)
    for batch, plain in zip(made, expected, strict=True):
        changed = (batch.inputs != plain.inputs).any(dim=1).sum(dim=(1, 2))
        assert (changed <= 1).all()


# determined by seed, epoch and step alone


@pytest.mark.parametrize("source", ["in_memory", "of_all_sizes"])
@pytest.mark.parametrize(
    "options",
    [{}, {"augment": AUGMENT, "shuffle": True, "seed": 1}, {"augment": ALL_OTHERS, "shuffle": True, "seed": 1}],
    ids=["evaluation", "training", "training with all others"],
)
def test_the_number_of_workers_changes_nothing(request, source, options):
    pictures, prepare = request.getfixturevalue(source), Prepare(resize=10, crop=8)
    alone = batches(pictures, prepare, workers=0, **options)
    for workers in (1, 2, 4, 9, None):
        assert equal(batches(pictures, prepare, workers=workers, **options), alone), workers


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first_step", [0, 1, 3, 5, 6, 9])
@pytest.mark.parametrize("augment", [AUGMENT, ALL_OTHERS], ids=["some", "all others"])
def test_an_epoch_can_be_entered_at_any_step(in_memory, augment, workers, first_step):
    options = {"augment": augment, "shuffle": True, "seed": 1, "epoch": 2, "workers": workers}
    whole = batches(in_memory, Prepare(crop=8), **options)
    assert equal(batches(in_memory, Prepare(crop=8), first_step=first_step, **options), whole[first_step:])


def test_the_same_loader_gives_the_same_epoch_again(in_memory):
    loader = Loader(in_memory, Prepare(crop=8), PLAN, 4, augment=AUGMENT, shuffle=True)
    first = list(loader.batches(epoch=1))
    list(loader.batches(epoch=2))
    assert equal(list(loader.batches(epoch=1)), first)


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 1}], ids=str)
def test_another_epoch_or_seed_has_another_order_and_other_changes(in_memory, change):
    options = {"augment": AUGMENT, "shuffle": True, "seed": 0, "epoch": 0}
    one, other = (batches(in_memory, Prepare(crop=8), **(options | changed)) for changed in ({}, change))
    assert [batch.indices.tolist() for batch in one] != [batch.indices.tolist() for batch in other]
    options["shuffle"] = False
    one, other = (batches(in_memory, Prepare(crop=8), **(options | changed)) for changed in ({}, change))
    assert not equal(one, other)


def test_an_epoch_of_training_has_every_picture_once(in_memory):
    made = batches(in_memory, Prepare(), shuffle=True)
    order = np.concatenate([batch.indices for batch in made])
    assert sorted(order) == list(range(22)) and order.tolist() != list(range(22))


def test_the_global_generator_has_no_say_and_is_left_alone(in_memory):
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(batches(in_memory, Prepare(crop=8), augment=AUGMENT, shuffle=True, workers=2))
        expected = torch.rand(1, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(torch.rand(1), expected)
    assert equal(*made)


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda x: x[:, ::-1].copy()[:, ::-1]], ids=["columns", "mirrored"]
)
def test_the_order_in_memory_changes_nothing(in_memory, layout):
    other = replace(in_memory, pixels=layout(in_memory.pixels))
    options = {"augment": AUGMENT, "shuffle": True}
    for prepare in (Prepare(crop=8), Prepare(resize=20, crop=16)):
        assert equal(batches(other, prepare, **options), batches(in_memory, prepare, **options))


@pytest.mark.filterwarnings("error")
def test_labels_of_any_kind_of_array_are_taken(in_memory):
    reversed_view, read_only = in_memory.labels[::-1], in_memory.labels.copy()
    read_only.flags.writeable = False
    for given in (reversed_view, read_only):
        made = batches(replace(in_memory, labels=given), Prepare())
        assert np.concatenate([batch.labels.numpy() for batch in made]).tolist() == given.tolist()


# how many


@pytest.mark.parametrize(
    ("count", "training", "evaluation"),
    [
        (8, [4, 4], [4, 4]),
        (9, [4, 4], [4, 4, 1]),
        (10, [4, 4, 2], [4, 4, 2]),
        (5, [4], [4, 1]),
        (3, [3], [3]),
        (1, [1], [1]),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_last_training_batch_of_one_picture_is_left_out(in_memory, count, training, evaluation, workers):
    for shuffle, sizes in ((True, training), (False, evaluation)):
        loader = Loader(in_memory.select(range(count)), Prepare(), PLAN, 4, shuffle=shuffle, workers=workers)
        assert [len(batch.labels) for batch in loader.batches()] == sizes
        assert loader.steps == len(sizes)


def test_batches_of_one_are_all_kept(in_memory):
    loader = Loader(in_memory.select(range(3)), Prepare(), PLAN, 1, shuffle=True)
    assert loader.steps == len(list(loader.batches())) == 3


def test_no_pictures_make_no_batches(in_memory):
    assert batches(in_memory.select([]), Prepare()) == []


# workers


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("eyebright-ahead")]


def test_workers_prepare_ahead_and_no_further_than_needed(in_memory, monkeypatch):
    made = []
    make = Loader._mix

    def record(self, order, epoch, step):
        made.append(step)
        return make(self, order, epoch, step)

    monkeypatch.setattr(Loader, "_mix", record)
    loader = Loader(in_memory, Prepare(), PLAN, 1, workers=2)
    running = loader.batches()
    for _ in range(3):
        next(running)
    running.close()
    assert set(range(3)) <= set(made) and max(made) <= 5


@pytest.mark.parametrize("leave", ["close", "throw", "forget", "finish"])
def test_no_threads_are_left_behind(in_memory, leave):
    running = Loader(in_memory, Prepare(), PLAN, 2, workers=3).batches()
    next(running)
    assert loader_threads()
    if leave == "close":
        running.close()
    elif leave == "throw":
        with pytest.raises(KeyboardInterrupt):
            running.throw(KeyboardInterrupt)
    elif leave == "finish":
        list(running)
    del running
    assert not loader_threads()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_in_a_worker_reaches_the_caller(noise, files, refuses, workers):
    pictures = files([noise(8, 8, 3, seed=i) for i in range(12)])
    pictures.paths[9].write_text("no picture")
    with refuses(PictureError, "009.png"):
        list(Loader(pictures, Prepare(), PLAN, 4, workers=workers).batches())
    assert not loader_threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_before_the_error_are_delivered(noise, files, workers):
    pictures = files([noise(8, 8, 3, seed=i) for i in range(12)])
    pictures.paths[9].write_text("no picture")
    running = Loader(pictures, Prepare(), PLAN, 4, workers=workers).batches()
    assert [next(running).indices.tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(PictureError):
        next(running)


def test_files_get_workers_and_memory_on_a_processor_does_not(in_memory, of_all_sizes):
    assert Loader(in_memory, Prepare(), PLAN, 4).workers == 0
    assert Loader(of_all_sizes, Prepare(), PLAN, 4).workers == 2
    assert Loader(in_memory, Prepare(), replace(PLAN, device="cuda"), 4).workers == 2
    assert Loader(of_all_sizes, Prepare(), PLAN, 4, workers=0).workers == 0


# different sizes


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "augment",
    [None, Augment(horizontal_flip=0.5), Augment(random_crop=True), Augment(random_resized_crop=(0.1, 1))],
    ids=["evaluation", "no crop", "a crop", "a resized crop"],
)
@pytest.mark.parametrize("prepare", [Prepare(), Prepare(resize=8)], ids=["as they are", "shorter side"])
def test_different_sizes_with_nothing_to_make_them_equal_are_refused(of_all_sizes, refuses, prepare, augment, workers):
    with refuses(DataError, "the pictures have different sizes: .*×") as raised:
        batches(of_all_sizes, prepare, augment=augment, workers=workers)
    assert "crop" in raised.value.remedy


def test_many_sizes_are_not_all_told(noise, files, refuses):
    pictures = files([noise(8, 8 + i, 3) for i in range(8)])
    with refuses(DataError, r"sizes: 8×\d+, 8×\d+, 8×\d+, 8×\d+, 8×\d+ …"):
        list(Loader(pictures, Prepare(), PLAN, 8).batches())


@pytest.mark.parametrize(
    "prepare",
    [Prepare(crop=8), Prepare(resize=(9, 7)), Prepare(resize=9, crop=(12, 8))],
    ids=["crop", "exact", "both"],
)
@pytest.mark.parametrize("augment", [None, AUGMENT, ALL_OTHERS], ids=["evaluation", "training", "all others"])
def test_different_sizes_become_one(of_all_sizes, prepare, augment):
    made = batches(of_all_sizes, prepare, augment=augment)
    assert {tuple(batch.inputs.shape[2:]) for batch in made} == {prepare.output_size}


@pytest.mark.parametrize("augment", [None, AUGMENT], ids=["as they are", "augmented"])
@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_those_of_the_batches_before_they_are_normalised(of_all_sizes, augment, workers):
    prepare = Prepare(resize=12, crop=10, mean=(0.4,), std=(0.2,))
    loader = Loader(of_all_sizes, prepare, PLAN, 3, augment=augment, shuffle=True, seed=2, workers=workers)
    for pixels, batch in zip(loader.pixels(1, 1), loader.batches(1, 1), strict=True):
        assert pixels.dtype == torch.uint8
        assert torch.equal(prepare.normalise(pixels), batch.inputs)


# kept in memory

PREPARATIONS = {
    "as they are": Prepare(),
    "cropped": Prepare(crop=8),
    "enlarged": Prepare(resize=40, crop=32),
    "made smaller": Prepare(resize=8),
    "made smaller and cropped": Prepare(resize=8, crop=6),
    "made wider and lower": Prepare(resize=(8, 25)),
    "grey": Prepare(channels=1, resize=8),
    "grey, enlarged": Prepare(channels=1, resize=(40, 40)),
}
SOURCES = {
    "PNG": lambda noise, files: files([noise(14, 12, 3, seed=i) for i in range(6)]),
    "grey PNG": lambda noise, files: files([noise(14, 12, 1, seed=i) for i in range(6)]),
    "grey and colour": lambda noise, files: files([noise(14, 12, 1 + i % 2 * 2, seed=i) for i in range(6)]),
    "JPEG": lambda noise, files: files([noise(50, 34, 3, seed=i) for i in range(6)], "JPEG"),
}


@pytest.mark.parametrize("prepare", PREPARATIONS.values(), ids=PREPARATIONS)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_pictures_kept_in_memory_give_the_batches_that_files_give(noise, files, source, prepare):
    on_disk = source(noise, files)
    kept = keep_ready(on_disk, prepare)
    assert isinstance(kept, Images)
    assert kept.classes == on_disk.classes and np.array_equal(kept.labels, on_disk.labels)
    assert [kept.name(i) for i in range(6)] == [on_disk.name(i) for i in range(6)]
    for options in ({}, {"augment": AUGMENT, "shuffle": True}):
        assert equal(batches(kept, prepare, **options), batches(on_disk, prepare, **options))


def test_pictures_of_different_sizes_are_kept_once_they_are_equal(of_all_sizes):
    prepare = Prepare(resize=(9, 7))
    kept = keep_ready(of_all_sizes, prepare)
    assert kept.pixels.shape == (7, 9, 7, 3)
    assert equal(batches(kept, prepare), batches(of_all_sizes, prepare))


@pytest.mark.parametrize("prepare", [Prepare(), Prepare(resize=9), Prepare(resize=9, crop=8)], ids=str)
def test_pictures_that_stay_different_are_mapped(of_all_sizes, prepare):
    assert isinstance(keep_ready(of_all_sizes, prepare), PreparedFiles)


@pytest.mark.parametrize(
    ("prepare", "shape"),
    [
        (Prepare(resize=40), (14, 12, 3)),
        (Prepare(resize=6), (7, 6, 3)),
        (Prepare(resize=(25, 8)), (14, 12, 3)),
        (Prepare(resize=(4, 40)), (4, 40, 3)),
        (Prepare(channels=1), (14, 12, 1)),
    ],
    ids=["before enlarging", "after making smaller", "more in all", "less in all", "grey"],
)
def test_the_smaller_form_is_kept(noise, files, prepare, shape):
    kept = keep_ready(files([noise(14, 12, 3, seed=i) for i in range(3)]), prepare)
    assert kept.pixels.shape == (3, *shape)


@pytest.mark.parametrize("prepare", [Prepare(), Prepare(resize=40), Prepare(resize=(14, 12))], ids=str)
def test_more_than_the_limit_is_mapped(noise, files, prepare):
    on_disk = files([noise(14, 12, 3, seed=i) for i in range(3)])
    assert isinstance(keep_ready(on_disk, prepare, limit=3 * 14 * 12 * 3 - 1), PreparedFiles)
    assert isinstance(keep_ready(on_disk, prepare, limit=3 * 14 * 12 * 3), Images)


def test_pictures_in_memory_are_given_back(in_memory):
    assert keep_ready(in_memory, Prepare(resize=4)) is in_memory


def test_no_files_are_given_back():
    nothing = ImageFiles((), labels(0), CLASSES)
    assert keep_ready(nothing, Prepare()) is nothing


def test_each_picture_that_was_read_is_told(noise, files):
    seen = []
    keep_ready(files([noise(14, 12, 3, seed=i) for i in range(5)]), Prepare(), on_read=lambda: seen.append(1))
    assert len(seen) == 5


def test_a_picture_that_cannot_be_read_is_named(noise, files, refuses):
    on_disk = files([noise(14, 12, 3, seed=i) for i in range(5)])
    on_disk.paths[3].write_bytes(b"")
    with refuses(PictureError, "003.png: the file is empty"):
        keep_ready(on_disk, Prepare())


def test_photographs_kept_in_memory_give_the_batches_that_files_give(shared_file):
    from eyebright.data.sources import load_parts

    photographs = load_parts(shared_file("hymenoptera.zip"))["val"].select(range(0, 153, 8))
    prepare = Prepare(resize=(48, 40), crop=32)
    assert equal(batches(keep_ready(photographs, prepare), prepare), batches(photographs, prepare))


@pytest.mark.parametrize("augment", [AUGMENT, ALL_OTHERS, None])
@pytest.mark.parametrize("prepare", [Prepare(crop=10), Prepare(crop=10, channels=1), Prepare(resize=(10, 10))])
def test_pictures_that_stay_on_the_device_make_the_same_batches(in_memory, monkeypatch, augment, prepare):
    before = batches(in_memory, prepare, augment=augment, shuffle=True, epoch=1)
    monkeypatch.setattr(Plan, "has_room_for", lambda plan, count: count == in_memory.pixels.nbytes)
    loader = Loader(in_memory, prepare, PLAN, 4, augment=augment, shuffle=True)
    assert (loader._resident is not None) == (augment is not ALL_OTHERS and prepare.resize is None)
    for one, other in zip(before, loader.batches(1), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert one.indices.tolist() == other.indices.tolist()


def test_the_processor_itself_keeps_no_copy(in_memory):
    assert Loader(in_memory, Prepare(), PLAN, 4, shuffle=True)._resident is None


@pytest.mark.cuda
def test_pictures_stay_on_the_gpu(in_memory):
    loader = Loader(in_memory, Prepare(), replace(PLAN, device="cuda"), 4, shuffle=True)
    assert loader._resident is not None and loader._resident.device.type == "cuda"
    same = batches(in_memory, Prepare(), shuffle=True)
    assert all(torch.equal(a.inputs.cpu(), b.inputs) for a, b in zip(loader.batches(), same, strict=True))
