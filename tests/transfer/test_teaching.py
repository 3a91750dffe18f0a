"""Teaching: what was given is learned, what was learned stays, whatever the order."""

import numpy as np
import pytest
import torch
from PIL import Image

import eyebright as eb
from eyebright.classifier import Classifier
from eyebright.data.images import ImageFiles
from eyebright.data.prepare import Prepare
from eyebright.data.split import picture_digests
from eyebright.device import choose_plan
from eyebright.errors import DataError, ModelError, StoredFileError
from eyebright.evaluation.embeddings import Embedder
from eyebright.tensors import read_safetensors, write_safetensors
from eyebright.transfer.heads import Examples, choose_head
from eyebright.transfer.joined import join_head
from eyebright.transfer.rejecting import calibrate, make_rejection, seen_by
from eyebright.transfer.teaching import remember, teach

COLOURS = {"red": (210, 40, 40), "green": (40, 210, 40), "blue": (40, 40, 210)}


@pytest.fixture
def draw(tmp_path):
    """`draw("red", 3)`: three files of that colour."""
    random = np.random.default_rng(0)

    def make(colour, count):
        paths = []
        for _ in range(count):
            path = tmp_path / f"{colour}-{len(list(tmp_path.iterdir()))}.png"
            pixels = np.array(COLOURS[colour]) + random.integers(-40, 40, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            paths.append(path)
        return paths

    return make


def make_classifier(paths, labels, classes, kind="linear", rate=None):
    plan = choose_plan("cpu", "float32", training=False)
    model = eb.create_model("resnet20_cifar", num_classes=10, seed=0)
    names = tuple(f"class {number}" for number in range(10))
    backbone = Classifier(model, names, Prepare(mean=(0.4,), std=(0.2,)), {"origin": "a test"}, plan)
    files = ImageFiles(tuple(paths), np.array(labels), classes)
    examples = Examples(Embedder(backbone)(files), files.labels, classes)
    head, setting = choose_head(kind, examples)
    made = join_head(backbone, head, classes, {"origin": "a test"})
    if rate is not None:
        seen = seen_by(made, examples.values, examples.labels)
        calibrate(made, seen, [(seen, seen)], rate)
    remember(made, kind, setting, examples, torch.from_numpy(picture_digests(files)[0]))
    return made


@pytest.fixture
def red_or_green(draw):
    paths = [*draw("red", 6), *draw("green", 6)]
    return make_classifier(paths, [0] * 6 + [1] * 6, ("red", "green")), paths


@pytest.mark.parametrize("kind", ["linear", "prototypes", "neighbours", "dense"])
def test_new_pictures_are_learned_and_old_ones_not_forgotten(kind, draw):
    paths = [*draw("red", 6), *draw("green", 6)]
    before = make_classifier(paths, [0] * 6 + [1] * 6, ("red", "green"), kind)
    body = {name: value.clone() for name, value in before.model.state_dict().items() if "linear" not in name}
    blue = draw("blue", 3)
    taught = teach(before, blue, "blue", new_class=True)
    assert (taught.added, taught.corrected, taught.known, taught.classes_added) == (3, 0, 0, ("blue",))
    after = taught.classifier
    assert after.classes == ("red", "green", "blue")
    assert [one.best for one in after.predict(blue)] == ["blue"] * 3
    assert [one.best for one in after.predict(paths)] == ["red"] * 6 + ["green"] * 6
    assert [one.best for one in after.predict(draw("blue", 4))] == ["blue"] * 4
    assert before.classes == ("red", "green")  # is as it was
    assert len(before.memory.labels) == 12
    assert all(torch.equal(value, after.model.state_dict()[name]) for name, value in body.items())
    assert after.facts["origin"] == "a test"


def test_a_label_is_corrected(draw, red_or_green):
    classifier, paths = red_or_green
    wrong = draw("green", 1)
    mistaught = teach(classifier, wrong, "red").classifier
    put_right = teach(mistaught, wrong, "green")
    assert (put_right.added, put_right.corrected, put_right.known) == (0, 1, 0)
    direct = teach(classifier, wrong, "green").classifier
    inputs = torch.cat([classifier.prepare(classifier._pixels(path)) for path in paths])
    torch.testing.assert_close(put_right.classifier.logits(inputs), direct.logits(inputs), atol=1e-4, rtol=1e-4)


def test_the_order_does_not_matter(draw, red_or_green):
    classifier, paths = red_or_green
    red, green = draw("red", 2), draw("green", 3)
    one = teach(teach(classifier, red, "red").classifier, green, "green").classifier
    other = teach(teach(classifier, green, "green").classifier, red, "red").classifier
    inputs = torch.cat([classifier.prepare(classifier._pixels(path)) for path in paths])
    torch.testing.assert_close(one.logits(inputs), other.logits(inputs), atol=1e-3, rtol=1e-3)


def test_what_is_known_already_changes_nothing(draw, red_or_green):
    classifier, paths = red_or_green
    taught = teach(classifier, [*paths[:3], paths[0]], "red")
    assert (taught.added, taught.corrected, taught.known) == (0, 0, 3)
    inputs = torch.cat([classifier.prepare(classifier._pixels(path)) for path in paths])
    torch.testing.assert_close(taught.classifier.logits(inputs), classifier.logits(inputs), atol=1e-4, rtol=1e-4)


def test_what_was_none_of_these_is_known_once_it_is_taught(draw):
    paths = [*draw("red", 12), *draw("green", 12)]
    classifier = make_classifier(paths, [0] * 12 + [1] * 12, ("red", "green"), rate=0.1)
    others = [*draw("red", 12), *draw("green", 12)]
    distances = classifier.rejection(
        torch.zeros(24, 2), torch.from_numpy(Embedder(classifier)(ImageFiles(tuple(others), np.zeros(24, int), ("a",))))
    )
    classifier.rejection = make_rejection(  # as it would be, had others been judged
        "neighbours",
        seen_by(classifier, classifier.memory.embeddings.numpy(), classifier.memory.labels.numpy()),
        float(distances.max()),
        0.1,
    )
    blue = draw("blue", 8)
    assert not any(one.known for one in classifier.predict(blue))
    after = teach(classifier, blue[:4], "blue", new_class=True).classifier
    assert [one.best for one in after.predict(blue[:4])] == ["blue"] * 4
    assert {one.top(1)[0][0] for one in after.predict(blue)} == {"blue"}
    assert after.rejection.options.threshold == classifier.rejection.options.threshold
    assert after.temperature == classifier.temperature


def test_a_taught_one_is_saved_and_taught_again(draw, red_or_green, tmp_path):
    classifier, _ = red_or_green
    teach(classifier, draw("blue", 2), "blue", new_class=True).classifier.save(tmp_path / "c.safetensors")
    loaded = Classifier.load(tmp_path / "c.safetensors", device="cpu")
    again = teach(loaded, draw("blue", 1), "blue")
    assert again.added == 1
    assert len(again.classifier.memory.labels) == 15


def test_a_damaged_memory_is_refused(draw, red_or_green, tmp_path):
    path = tmp_path / "c.safetensors"
    red_or_green[0].save(path)
    tensors, header = read_safetensors(path, "eyebright.classifier", 2)
    tensors["memory.labels"] = tensors["memory.labels"][:-1].clone()
    write_safetensors(path, tensors, "eyebright.classifier", {"format_version": 2, **header})
    with pytest.raises(StoredFileError, match="of different numbers of pictures"):
        Classifier.load(path)


def test_an_unknown_class_is_not_made_by_a_slip(draw, red_or_green, refuses):
    with refuses(DataError, "the classifier knows no class 'gren'") as raised:
        teach(red_or_green[0], draw("green", 1), "gren")
    assert raised.value.remedy == "did you mean 'green'?"
    with refuses(DataError, "there are no pictures to teach"):
        teach(red_or_green[0], [], "green")


def test_only_what_remembers_can_be_taught(draw, red_or_green, refuses):
    classifier = red_or_green[0]
    classifier.memory = None
    with refuses(ModelError, "this classifier cannot be taught more"):
        teach(classifier, draw("green", 1), "green")


def test_several_labels_are_refused(draw, red_or_green, refuses):
    classifier = red_or_green[0]
    classifier.facts["multi_label"] = True
    with refuses(DataError, "answers with several labels"):
        teach(classifier, draw("green", 1), "green")


def test_the_command(eyebright, draw, red_or_green, tmp_path):
    path = tmp_path / "kept" / "c.safetensors"
    path.parent.mkdir()
    red_or_green[0].save(path)
    blue = draw("blue", 2)
    done = eyebright("teach", path, *blue, "--label", "blue")
    assert done.returncode == 1
    assert "knows no class 'blue'" in done.stderr
    done = eyebright(
        "teach", path, *blue, "--label", "blue", "--new-class", "--out", tmp_path / "kept" / "new.safetensors"
    )
    assert done.returncode == 0, done.stderr
    assert "new class: blue" in done.stdout
    assert "2 new, 0 corrected, 0 known already; recognised as blue: 0 of 2 before, 2 now;" in done.stdout
    assert Classifier.load(path).classes == ("red", "green")
    done = eyebright("teach", path, *draw("red", 1), "--label", "red", "--json")
    assert '"added": 1' in done.stdout
    assert len(Classifier.load(path).memory.labels) == 13


def test_a_taught_one_does_not_claim_the_old_figures(draw, red_or_green):
    classifier, _ = red_or_green
    classifier.facts["metrics"] = {"test_accuracy": 1.0}
    assert "metrics" not in teach(classifier, draw("red", 1), "red").classifier.facts
    assert "metrics" in classifier.facts
