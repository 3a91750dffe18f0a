import copy
import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.errors import DataError, DownloadError, ModelError, StoredFileError
from eyebright.evaluation.evaluate import evaluate
from eyebright.models import published
from eyebright.models.create import create_model
from eyebright.models.published import WEIGHTS, Weights, find_weights, imagenet_classes
from eyebright.models.weights import fetch_weights, read_weights
from eyebright.training.recipe import make_recipe

ALL = [(model, name) for model, known in WEIGHTS.items() for name in known]
ACCURACY = {  # in %, top-1 and top-5, of the published weights
    "alexnet": (56.522, 79.066), "vgg11": (69.02, 88.63), "vgg16": (71.59, 90.38), "vgg19": (72.38, 90.88),
    "googlenet": (69.778, 89.53), "inception_v3": (77.29, 93.45), "inception_v4": (80.1, 95.0),
    "resnet18": (69.758, 89.078), "resnet34": (73.3, 91.4), "resnet50": (76.13, 92.862), "resnet101": (77.374, 93.546),
    "resnet152": (78.312, 94.046),
}  # fmt: skip


# the table


@pytest.mark.parametrize(("model", "name"), ALL)
def test_every_row_is_whole(model, name):
    """Keys and shapes of every network in the table are those of the published state dicts: tests/models/truth.json."""
    truth = json.loads(Path(__file__).with_name("truth.json").read_text())
    assert "shapes" in truth[model]
    weights = WEIGHTS[model][name]
    assert weights.url.startswith("https://") and weights.licence and weights.origin
    if weights.sha256:
        assert re.fullmatch("[0-9a-f]{8}", weights.sha256) and weights.sha256 in weights.filename
    else:
        assert model == "inception_v4"
    with torch.device("meta"):
        network = create_model(model)
    assert len(weights.classes) == network.num_classes == len(set(weights.classes))
    assert len(weights.class_ids) in (0, network.num_classes)
    assert weights.prepare.crop in (network.default_input, None)
    assert weights.top5 is None or 0.5 < weights.top1 < weights.top5 < 1


def test_published_accuracy():
    for model, figures in ACCURACY.items():
        found = WEIGHTS[model]["imagenet"]
        assert (found.top1 * 100, found.top5 * 100) == pytest.approx(figures, abs=0.05)
    assert WEIGHTS["resnet20_cifar"]["cifar10"].top1 == pytest.approx(0.9173)


def test_class_names():
    names, ids = imagenet_classes()
    assert (len(names), len({name.lower() for name in names})) == (1000, 1000)
    assert list(ids) == sorted(set(ids))
    assert all(re.fullmatch("n[0-9]{8}", name) for name in ids)
    assert [names[i] for i in (0, 1, 207, 281, 999)] == [
        "tench", "goldfish", "golden retriever", "tabby", "toilet tissue",
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["googlenet", "inception_v3"])
def test_networks_that_google_trained_see_pixels_from_minus_one_to_one(model):
    """The libraries normalise as for all others and then scale anew inside the network; here it is one step."""
    pixels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)  # [256, 1, 3]
    prepare = WEIGHTS[model]["imagenet"].prepare.model_copy(update={"resize": None, "crop": None})
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        usual = (pixels[:, 0, channel] / 255 - mean) / std
        inside = usual * (std / 0.5) + (mean - 0.5) / 0.5
        np.testing.assert_allclose(prepare(pixels)[0, channel, :, 0].numpy(), inside, atol=1e-6)
    assert prepare.mean != WEIGHTS["resnet18"]["imagenet"].prepare.mean


def test_sizes_are_those_that_the_publishers_evaluate_at():
    sizes = {model: (found["imagenet"].prepare.resize, found["imagenet"].prepare.crop)
             for model, found in WEIGHTS.items() if "imagenet" in found}  # fmt: skip
    assert sizes.pop("inception_v3") == (342, 299)
    assert sizes.pop("inception_v4") == (341, 299)
    assert set(sizes.values()) == {(256, 224)}
    assert WEIGHTS["inception_v4"]["imagenet"].prepare.interpolation == "bicubic"


def test_unknown_weights(refuses):
    with refuses(ModelError, "resnet18 has no published weights called 'imagenett'") as raised:
        create_model("resnet18", weights="imagenett")
    assert raised.value.remedy == "did you mean 'imagenet'?"
    with refuses(ModelError, "zfnet has no published weights") as raised:
        find_weights("zfnet", "imagenet")
    assert "resnet50" in raised.value.remedy
    with refuses(ModelError, "there is no network 'resnet51'"):
        create_model("resnet51", weights="imagenet")


# files


@pytest.fixture(scope="module")
def trained():
    """A small network whose statistics are not those of a fresh one, and what it answers."""
    model = create_model("resnet20_cifar", seed=5)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model.eval().state_dict(), x, model(x)


def as_public_cifar(state):
    return {"state_dict": {f"module.{key}": value for key, value in state.items()}, "best_prec1": 91.73}


def save_as(kind, state, path):
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "classifier":
        model = create_model("resnet20_cifar")
        model.load_state_dict(state)
        Classifier(model, tuple("abcdefghij"), Prepare()).save(path)
    else:
        wrapped = {
            "plain": state,
            "wrapped": as_public_cifar(state),
            "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
            "trainer": {"model": state, "epoch": 3},
        }[kind]
        torch.save(wrapped, path)


@pytest.mark.parametrize("kind", ["plain", "wrapped", "compiled", "trainer", "safetensors", "classifier"])
def test_a_users_file_loads_as_it_is(trained, tmp_path, kind):
    state, x, answers = trained
    save_as(kind, state, tmp_path / "weights.bin")
    for path in (tmp_path / "weights.bin", str(tmp_path / "weights.bin")):
        model = create_model("resnet20_cifar", weights=path).eval()
        with torch.no_grad():
            assert torch.equal(model(x), answers)
        assert (model.model_name, model.num_classes) == ("resnet20_cifar", 10)


def test_files_from_before_batch_norm_counted(trained, tmp_path):
    state, x, answers = trained
    torch.save(
        {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, tmp_path / "old"
    )
    model = create_model("resnet20_cifar", weights=tmp_path / "old").eval()
    with torch.no_grad():
        assert torch.equal(model(x), answers)
    assert model.bn1.num_batches_tracked == 0


def test_half_precision_becomes_float32(trained, tmp_path):
    state, x, answers = trained
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "half.pt")
    model = create_model("resnet20_cifar", weights=tmp_path / "half.pt").eval()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with torch.no_grad():
        torch.testing.assert_close(model(x), answers, atol=0.05, rtol=0.05)


def test_auxiliary_heads_of_the_file_are_taken_only_where_there_are_any(tmp_path):
    with_heads = create_model("googlenet", num_classes=4, auxiliary_heads=True, seed=0)
    torch.save(with_heads.state_dict(), tmp_path / "googlenet.pth")
    without = create_model("googlenet", weights=tmp_path / "googlenet.pth")
    assert torch.equal(without.conv1.conv.weight, with_heads.conv1.conv.weight)
    assert not [key for key in without.state_dict() if key.startswith("aux")]
    again = create_model("googlenet", weights=tmp_path / "googlenet.pth", auxiliary_heads=True)
    assert torch.equal(again.aux2.fc2.weight, with_heads.aux2.fc2.weight)


def test_another_number_of_classes_gets_a_fresh_head(trained, tmp_path):
    state, _, _ = trained
    torch.save(state, tmp_path / "a.pth")
    model = create_model("resnet20_cifar", weights=tmp_path / "a.pth", num_classes=3, seed=1)
    again = create_model("resnet20_cifar", weights=tmp_path / "a.pth", num_classes=3, seed=1)
    assert model.model_options["num_classes"] == model.num_classes == 3
    assert torch.equal(model.conv1.weight, state["conv1.weight"])
    assert torch.equal(model.linear.weight, again.linear.weight)
    torch.save({key: value[:7] if key.startswith("linear") else value for key, value in state.items()}, tmp_path / "7")
    assert create_model("resnet20_cifar", weights=tmp_path / "7").num_classes == 7


def test_weights_that_do_not_fit(trained, tmp_path, refuses):
    state, _, _ = trained
    torch.save(state, tmp_path / "a.pth")
    with refuses(ModelError, "are not those of resnet32_cifar: without layer1.3"):
        create_model("resnet32_cifar", weights=tmp_path / "a.pth")
    with refuses(ModelError, r"conv1.weight is \[16, 3, 3, 3\], not \[16, 1, 3, 3\]"):
        create_model("resnet20_cifar", weights=tmp_path / "a.pth", in_channels=1)
    torch.save({**state, "more.weight": torch.zeros(1)}, tmp_path / "b.pth")
    with refuses(ModelError, "with unknown more.weight"):
        create_model("resnet20_cifar", weights=tmp_path / "b.pth")


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def looped():
    found = {}
    found["model"] = found
    return found


ODD_FILES = {
    "loop": looped,
    "numbers for names": lambda: {1: torch.zeros(1)},
    "a number beside names": lambda: {**create_model("cnn_mnist").state_dict(), 7: torch.zeros(1)},
    "sparse": lambda: {"a": torch.zeros(2, 2).to_sparse()},
    "meta": lambda: {"a": torch.empty(2, device="meta")},
    "complex": lambda: {"a": torch.zeros(2, dtype=torch.complex64)},
    "four bits": lambda: {"a": torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)},
    "truth values": lambda: {"a": torch.zeros(2, dtype=torch.bool)},
    "a list": lambda: [torch.zeros(1)],
    "a tensor": lambda: torch.zeros(1),
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_dicts_are_refused(name, tmp_path, refuses):
    torch.save(ODD_FILES[name](), tmp_path / "odd.pth")
    with refuses(StoredFileError, "cannot read weights from"):
        create_model("cnn_mnist", weights=tmp_path / "odd.pth")


@pytest.mark.parametrize("text", ["a,b\n1,2", "epoch", "error: nothing", "Redirect", "\x80\x02}q\x00."])
def test_texts_are_refused_in_our_own_words(text, tmp_path, refuses):
    (tmp_path / "log.pth").write_bytes(text.encode("latin-1"))
    with refuses(StoredFileError, "cannot read weights from") as raised:
        read_weights(tmp_path / "log.pth")
    assert "weights_only" not in str(raised.value)


def test_whole_numbers_are_no_weights(tmp_path, refuses):
    state = create_model("cnn_mnist").state_dict()
    torch.save(state | {"output.weight": (state["output.weight"] * 100).to(torch.int8)}, tmp_path / "odd.pth")
    with refuses(ModelError, r"output.weight is whole numbers \[10, 128\], not \[10, 128\]"):
        create_model("cnn_mnist", weights=tmp_path / "odd.pth")


def test_an_output_without_dimensions_is_another_networks(tmp_path, refuses):
    state = create_model("cnn_mnist").state_dict() | {"output.weight": torch.tensor(1.0)}
    torch.save(state, tmp_path / "odd.pth")
    with refuses(ModelError, r"output.weight is \[\], not \[10, 128\]"):
        create_model("cnn_mnist", weights=tmp_path / "odd.pth")


@pytest.mark.parametrize("num_classes", ["3", 2.5, True, 0])
def test_options_are_checked_with_weights_too(trained, tmp_path, num_classes, refuses):
    torch.save(trained[0], tmp_path / "a.pth")
    with refuses(ModelError, "was given num_classes = "):
        create_model("resnet20_cifar", weights=tmp_path / "a.pth", num_classes=num_classes)
    with refuses(ModelError, "no published weights called 'aaa"):
        create_model("resnet20_cifar", weights="a" * 300)


@pytest.mark.parametrize("prefix", ["_orig_mod.module.", "module.module.", "module._orig_mod.", "model."])
def test_prefixes_within_prefixes(trained, tmp_path, prefix):
    state, x, answers = trained
    averaged = {"n_averaged": torch.tensor(3)} | {prefix + key: value for key, value in state.items()}
    torch.save({"state_dict_ema": averaged}, tmp_path / "a.pth")
    with torch.no_grad():
        assert torch.equal(create_model("resnet20_cifar", weights=tmp_path / "a.pth").eval()(x), answers)


def test_a_file_that_is_not_there(tmp_path, refuses):
    for path in (tmp_path / "nothing.pth", tmp_path):
        with refuses(StoredFileError, "cannot read weights from"):
            read_weights(path)


@pytest.mark.parametrize("what", ["trap", "text", "empty", "numbers", "module", "cut off", "nothing"])
def test_files_that_hold_something_else_are_refused(trained, tmp_path, what, refuses):
    state, _, _ = trained
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    match what:
        case "trap":
            torch.save({"state_dict": state, "more": Trap(trace)}, path)
        case "text":
            path.write_text("Not Found")
        case "empty":
            path.write_bytes(b"")
        case "numbers":
            torch.save({"a": 1}, path)
        case "module":
            torch.save(create_model("lenet5"), path)
        case "cut off":
            torch.save(state, path)
            path.write_bytes(path.read_bytes()[:-5000])
        case "nothing":
            torch.save({}, path)
    with refuses(StoredFileError, "cannot read weights from"):
        read_weights(path)
    assert not trace.exists()


# published files: from a server of our own, with files of the published form, not with the published files


@pytest.fixture
def home(server, trained, monkeypatch, tmp_path):
    """CIFAR weights in the published form on a server, and how often they were asked for."""
    url, folder, asked = server
    torch.save(as_public_cifar(trained[0]), folder / "resnet20.th")
    digits = hashlib.sha256((folder / "resnet20.th").read_bytes()).hexdigest()[:8]
    (folder / "resnet20.th").rename(folder / f"resnet20-{digits}.th")
    row = dataclasses.replace(WEIGHTS["resnet20_cifar"]["cifar10"], url=f"{url}resnet20-{digits}.th", sha256=digits)
    monkeypatch.setitem(WEIGHTS, "resnet20_cifar", {"cifar10": row})
    monkeypatch.setenv("EYEBRIGHT_DATA", str(tmp_path / "root"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return row, asked


def test_published_weights_are_fetched_once(home, trained, tmp_path):
    row, asked = home
    _, x, answers = trained
    for _ in range(2):
        model = create_model("resnet20_cifar", weights="cifar10").eval()
        with torch.no_grad():
            assert torch.equal(model(x), answers)
    assert asked == [f"/{row.filename}"]
    assert fetch_weights(row) == tmp_path / "root" / "weights" / row.filename


def test_a_file_among_torchs_own_is_taken(home, server, tmp_path):
    row, asked = home
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    theirs = tmp_path / "hub" / "checkpoints" / row.filename
    theirs.write_bytes((server[1] / row.filename).read_bytes())
    assert fetch_weights(row) == theirs
    assert not asked
    theirs.write_bytes(b"another")
    assert fetch_weights(row) == tmp_path / "root" / "weights" / row.filename


def test_a_file_called_like_published_weights_is_not_taken_for_them(home, trained, tmp_path, monkeypatch):
    _, x, answers = trained
    monkeypatch.chdir(tmp_path)
    torch.save(create_model("resnet20_cifar", seed=9).state_dict(), tmp_path / "cifar10")
    for model in (
        create_model("resnet20_cifar", weights="cifar10"),
        Classifier.published("resnet20_cifar", "cifar10").model,
    ):
        with torch.no_grad():
            torch.testing.assert_close(model.eval()(x), answers, rtol=1e-4, atol=1e-4)


def test_a_file_among_torchs_own_is_not_taken_without_a_known_checksum(home, tmp_path, offline, refuses):
    row = dataclasses.replace(home[0], url=f"{offline}timm/a_net/resolve/main/model.safetensors", sha256="")
    assert row.filename == "a_net.safetensors"
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / row.filename).write_bytes(b"another")
    with refuses(DownloadError, "could not fetch") as raised:
        fetch_weights(row)
    assert str(tmp_path / "root" / "weights" / "a_net.safetensors") in raised.value.remedy


def test_a_damaged_file_is_named(home, refuses):
    row, _ = home
    path = fetch_weights(row)
    path.write_bytes(path.read_bytes()[:-1])
    with refuses(StoredFileError, "is not the published file: its checksum is wrong"):
        create_model("resnet20_cifar", weights="cifar10")


def test_without_a_network_the_reader_learns_what_to_fetch(offline, home, monkeypatch, tmp_path, refuses):
    row, _ = home
    monkeypatch.setitem(WEIGHTS, "resnet20_cifar", {"cifar10": dataclasses.replace(row, url=f"{offline}a-b.th")})
    with refuses(DownloadError, f"could not fetch {offline}a-b.th") as raised:
        create_model("resnet20_cifar", weights="cifar10")
    assert str(tmp_path / "root" / "weights" / "a-b.th") in raised.value.remedy
    assert raised.value.expected == f"the published file, with SHA-256 {row.sha256}…"


def test_a_classifier_with_published_weights(home, trained, tmp_path):
    row, _ = home
    classifier = Classifier.published("resnet20_cifar", "cifar10")
    assert classifier.classes[:3] == ("airplane", "automobile", "bird")
    assert classifier.prepare == row.prepare
    assert classifier.facts["licence"] == "BSD-2-Clause"
    assert row.url in classifier.facts["origin"]
    assert classifier.facts["metrics"] == {"top1": 0.9173, "top5": None}
    classifier.save(tmp_path / "c.safetensors")
    again = Classifier.load(tmp_path / "c.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert again(picture).probabilities == classifier(picture).probabilities


def test_data_may_call_classes_by_their_ids(home):
    classifier = Classifier.published("resnet20_cifar", "cifar10")
    classifier.facts["class_ids"] = [f"n{i:08}" for i in range(10)]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    by_id = Images(pixels, np.array([0, 1, 0, 1]), ("n00000007", "n00000002"))
    with pytest.warns(UserWarning, match="no pictures of"):
        assert evaluate(classifier, by_id).labels.tolist() == [7, 2, 7, 2]
    by_name = Images(pixels, np.array([0, 1, 0, 1]), ("horse", "bird"))
    with pytest.warns(UserWarning, match="no pictures of"):
        assert evaluate(classifier, by_name).labels.tolist() == [7, 2, 7, 2]


# recipes

TRAINING = {"epochs": 1, "learning_rate": 0.1}


def test_published_weights_bring_their_preprocessing_into_a_recipe():
    recipe = make_recipe({"model": {"name": "googlenet", "weights": "imagenet"}, "training": TRAINING})
    assert (recipe.prepare.resize, recipe.prepare.crop, recipe.prepare.mean) == (256, 224, (0.5,))
    assert make_recipe(json.loads(recipe.model_dump_json(exclude_none=True))) == recipe
    given = {"model": {"name": "googlenet", "weights": "imagenet"}, "training": TRAINING, "prepare": {"crop": 96}}
    recipe = make_recipe(given)
    assert (recipe.prepare.resize, recipe.prepare.crop, recipe.prepare.std) == (None, 96, (0.5,))
    recipe = make_recipe(copy.deepcopy(given) | {"prepare": {"mean": [0.1], "std": [0.2]}})
    assert (recipe.prepare.mean, recipe.prepare.std) == ((0.1,), (0.2,))
    recipe = make_recipe(copy.deepcopy(given) | {"prepare": {"statistics": "train"}})
    assert recipe.prepare.mean == (0.0,)


def test_a_recipe_names_weights_that_there_are(tmp_path, refuses):
    with refuses(ModelError, "lenet5 has no published weights called 'imagenet'"):
        make_recipe({"model": {"name": "lenet5", "weights": "imagenet"}, "training": TRAINING})
    (tmp_path / "a.pth").write_bytes(b"")
    recipe = make_recipe({"model": {"name": "lenet5", "weights": str(tmp_path / "a.pth")}, "training": TRAINING})
    assert recipe.model.options == {}


def test_rows_are_values():
    assert isinstance(published.WEIGHTS["alexnet"]["imagenet"], Weights)
    with pytest.raises(dataclasses.FrozenInstanceError):
        WEIGHTS["alexnet"]["imagenet"].url = ""


def test_training_begins_with_the_weights_named(trained, tmp_path):
    from eyebright.data.images import Images
    from eyebright.data.split import Splits
    from eyebright.training.fit import Fit

    state, _, _ = trained
    torch.save(state, tmp_path / "a.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    images = Images(pixels, np.arange(12) % 3, ("a", "b", "c"))
    model = {"name": "resnet20_cifar", "weights": str(tmp_path / "a.pth")}
    fit = Fit(make_recipe({"model": model, "training": TRAINING}), Splits(images, None, images))
    assert torch.equal(fit.model.layer3[2].conv2.weight, state["layer3.2.conv2.weight"])
    assert fit.model.num_classes == 3


def test_class_ids_are_one_for_each_class(refuses):
    with refuses(DataError, "class_ids that are no list of 10 texts"):
        Classifier(create_model("lenet5"), tuple("abcdefghij"), Prepare(channels=1), {"class_ids": ["n1"]})


@pytest.mark.filterwarnings("ignore:the data has no pictures")
def test_commands_take_a_network_with_published_weights(home, tmp_path, eyebright):
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(2):
            pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    code, out, _ = eyebright(
        "predict", "resnet20_cifar", tmp_path / "pictures", "--weights", "cifar10", "--json", "--top", 1
    )
    answers = json.loads(out)
    assert (code, len(answers)) == (0, 4)
    assert answers[0]["top"][0]["class"] in Classifier.published("resnet20_cifar", "cifar10").classes
    source = ("--data", tmp_path / "pictures", "--split", "train")
    code, out, _ = eyebright("evaluate", "resnet20_cifar", "--weights", "cifar10", *source, "--json")
    assert (code, json.loads(out)["count"]) == (0, 4)
    code, _, err = eyebright("predict", "resnet20_cifar", tmp_path / "pictures")
    assert code == 1
    assert "'resnet20_cifar' is a network that has learned nothing yet" in err
    assert "add --weights cifar10 or train it" in err
