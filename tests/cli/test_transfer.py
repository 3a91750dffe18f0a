"""`eyebright transfer`: from a folder of pictures and a trained network to a tested classifier."""

import json
import shutil

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

import eyebright as eb
from eyebright import road
from eyebright.classifier import Classifier
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.errors import DataWarning, ModelError, RunError
from eyebright.layers.rejection import Rejection, RejectionOptions
from eyebright.transfer.choose import Search
from eyebright.transferring import open_backbone, transfer_from

SIDE = 24
QUICK = ("--tune", "none", "--views", "0", "--size", str(SIDE))


@pytest.fixture
def backbone(tmp_path):
    plan = choose_plan("cpu", "float32", training=False)
    classes = tuple(f"class {number}" for number in range(10))
    prepare = Prepare(resize=SIDE, crop=SIDE, mean=(0.3,), std=(0.2,))
    facts = {"origin": "a test", "licence": "CC0"}
    path = tmp_path / "backbone.safetensors"
    Classifier(eb.create_model("resnet20_cifar", num_classes=10, seed=0), classes, prepare, facts, plan).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Reddish and bluish pictures: train and val, which is the test part."""
    random = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 7)):
        for channel, name in ((0, "red things"), (2, "blue things")):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (30, 34, 3))
                pixels[..., channel] += int(random.integers(0, 130))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_from_folder_to_classifier(eyebright, backbone, photos, tmp_path):
    out = tmp_path / "out"
    done = eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "→ " in done.stdout
    assert "test, opened once: top-1" in done.stdout
    assert "all of them are the same to the bit (SHA-256)" in done.stdout
    assert "embedded 32 pictures" in done.stderr
    assert (out / "transfer.png").read_bytes().startswith(b"\x89PNG")
    said = json.loads((out / "transfer.json").read_text())
    tested, receipt = (json.loads((out / f"{name}.json").read_text()) for name in ("evaluation", "receipt"))
    assert said["kept"] in {one["name"] for one in said["candidates"]}
    assert tested["count"] == 14
    assert tested["test_opened"] == 1
    assert said["folds"] == 5
    assert receipt["broken"] == []
    assert not (out / "kept").exists()
    made = Classifier.load(out / "classifier.safetensors")
    assert made.classes == ("blue things", "red things")
    assert made.prepare == Classifier.load(backbone).prepare
    assert made.facts["transfer"]["origin"] == "a test"
    assert made.facts["metrics"]["test_accuracy"] == tested["top1"]
    seen = eyebright("predict", out, photos / "val" / "red things" / "0.png", "--json")
    assert json.loads(seen.stdout)[0]["top"][0]["class"] in made.classes
    judged = eyebright("evaluate", out, "--json")
    assert json.loads(judged.stdout)["top1"] == pytest.approx(tested["top1"])
    assert json.loads((out / "evaluation.json").read_text())["test_opened"] == 2
    assert eyebright("verify", out).returncode == 0


def test_its_report(eyebright, backbone, photos, tmp_path):
    """One page, which opens offline; what is inspected later is in the next one."""
    out = tmp_path / "out"
    assert "report: " in eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK).stdout
    html = (out / "report.html").read_text()
    for shown in (
        "photos, from backbone.safetensors", "What was tried", "linear on embeddings", "</b>, kept", "What was frozen",
        "same to the bit", "How sure it is, and how often right", "one of these: told by", "Test pictures as it sees",
        "red things", "How it was made", "opened 1 time<",
    ):  # fmt: skip
        assert shown in html, shown
    assert 'src="http' not in html and 'href="http' not in html
    assert html.count("data:image/png") >= 6
    assert eyebright("inspect", out, "mistakes", "--count", "3", "--split", "train").returncode == 0
    assert "What was inspected" not in html
    done = eyebright("report", out)
    assert done.returncode == 0, done.stderr
    again = (out / "report.html").read_text()
    assert "What was inspected" in again
    assert "opened 2 times" in again
    (out / "transfer.png").write_bytes(b"another")
    assert "damaged  transfer.png" in eyebright("verify", out).stdout
    assert "would not be true" in eyebright("report", out).stderr


def test_an_evaluation_that_is_broken_off_counts(backbone, photos, tmp_path, monkeypatch):
    def broken(*given, **more):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr("eyebright.transferring.evaluate_any", broken)
    with pytest.raises(KeyboardInterrupt):
        transfer_from(backbone, data=photos, out=out, tune=(), views=0)
    monkeypatch.undo()
    made = transfer_from(backbone, data=photos, out=out, tune=(), views=0)
    assert json.loads((out / "evaluation.json").read_text())["test_opened"] == 2
    assert any(line.startswith("test, opened 2 times: top-1") for line in made.sentences)


def test_broken_off_at_its_report_the_same_command_goes_on(eyebright, backbone, photos, tmp_path, monkeypatch):
    def broken(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("eyebright.transferring.write_transfer_report", broken)
        with pytest.raises(KeyboardInterrupt):
            transfer_from(backbone, data=photos, tune=(), views=0)
    assert "is not finished" in eyebright("report", "runs/transfer-photos").stderr
    other = transfer_from(backbone, data=photos, tune=(), views=1)
    assert other.path.name == "transfer-photos-2"
    made = transfer_from(backbone, data=photos, tune=(), views=0)
    assert made.path.name == "transfer-photos"
    assert made.folder.report_path.exists()


def test_what_it_knows_of_several_labels(eyebright, backbone, photos, tmp_path):
    """Thresholds stand beside each label; nothing is said of one half."""
    lines = ["path,label,part"]
    for part, count in (("train", 16), ("val", 7)):
        for number in range(count):
            for name in ("red things", "blue things"):
                labels = f"{name};first half" if number < count // 2 else name
                lines.append(f"photos/{part}/{name}/{number}.png,{labels},{'test' if part == 'val' else part}")
    table = tmp_path / "several.csv"
    table.write_text("\n".join(lines))
    done = eyebright("transfer", table, "--from", backbone, "--out", tmp_path / "out", *QUICK)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Answered with yes from the threshold on." in html
    assert "first half" in html
    assert "Yes from a probability of" in html
    assert eyebright("report", tmp_path / "out").returncode == 0


@pytest.mark.parametrize(
    "options", [("--single-output", "--head", "linear"), ("--false-rejection", "0", "--head", "neighbours")]
)
def test_reports_of_other_kinds(eyebright, backbone, photos, tmp_path, options):
    done = eyebright("transfer", photos, "--from", backbone, "--out", tmp_path / "out", *QUICK, *options)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "out" / "report.html").read_text()
    assert ("none of these: told by" in done.stdout) == (options[0] == "--single-output")
    assert "Which class is taken for which" in html


def test_the_report_of_a_tuned_one_shows_what_moved(eyebright, backbone, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("eyebright.transfer.tuning.PASSES", 30)
    monkeypatch.setattr(Search, "run", lambda self: self.make((found := self.judge())[0][-1], *found))
    made = transfer_from(backbone, data=photos, out=tmp_path / "out", heads=("linear",), tune=(2,), views=0, size=SIDE)
    assert made.transfer.kept == "last 2 layers tuned"
    html = made.folder.report_path.read_text()
    assert 'alt="how far each layer moved"' in html
    assert "<td>tune</td><td>[2]</td>" in html


@pytest.mark.parametrize(
    "command",
    [("doctor",), ("compare", "{run}"), ("inspect", "curves"), ("inspect", "filters"), ("inspect", "gradients")],
)
def test_what_needs_a_history_says_so(eyebright, backbone, photos, tmp_path, command):
    out = tmp_path / "out"
    eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK, "--head", "linear")
    done = eyebright(command[0], out, *(str(tmp_path / "out") if part == "{run}" else part for part in command[1:]))
    assert done.returncode == 1
    assert "is a transfer, which has no recipe and no history of training" in done.stderr


def test_what_it_learned_from_does_not_calibrate_it(eyebright, backbone, photos, tmp_path):
    out = tmp_path / "out"
    eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK, "--head", "linear")
    for options, said in (((), "have been learned from"), (("--data", photos), "are its test part")):
        done = eyebright("calibrate", out, *options)
        assert done.returncode == 1
        assert "pictures of validation to calibrate" in done.stderr
        assert said in done.stderr
    for part in ("train", "val"):
        for picture in (photos / part).glob("*/*.png"):
            Image.open(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(picture)
    done = eyebright("calibrate", out, "--data", photos)
    assert done.returncode == 0, done.stderr


def test_what_a_transfer_is_taught_is_another_file(eyebright, backbone, photos, tmp_path):
    """Its figures are of the classifier that it made; that one stays."""
    out = tmp_path / "out"
    eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK, "--head", "linear")
    before = (out / "classifier.safetensors").read_bytes()
    for number, known in ((0, 32), (1, 33)):
        done = eyebright(
            "teach", out, photos / "val" / "red things" / f"{number}.png", "--label", "red things", "--json"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["classifier"] == str(out / "taught.safetensors")
        assert len(Classifier.load(out / "taught.safetensors").memory.labels) == known + 1
    assert (out / "classifier.safetensors").read_bytes() == before
    picture = photos / "val" / "red things" / "2.png"
    eyebright("teach", out, picture, "--label", "red things", "--out", tmp_path / "more.safetensors")
    assert len(Classifier.load(tmp_path / "more.safetensors").memory.labels) == 35


def test_pictures_that_it_learned_from_are_told_of(eyebright, backbone, photos, tmp_path):
    """Those of validation too: where they were judged in folds, the kept one has learned from all."""
    out = tmp_path / "out"
    eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK)
    for look in (lambda: road.evaluate_source(out, part="val"), lambda: road.open_pictures(out)):
        with pytest.warns(DataWarning, match="has learned from its val part too"):
            look()
    shutil.copytree(photos / "train", tmp_path / "other" / "test")
    shutil.copytree(photos / "train", tmp_path / "other" / "train")
    with pytest.warns(DataWarning, match="32 of the 32 pictures of"):
        road.evaluate_source(out, data=tmp_path / "other")


def test_as_json(eyebright, backbone, photos, tmp_path):
    done = eyebright(
        "transfer", photos, "--from", backbone, "--out", tmp_path / "out", "--json", "--head", "linear", *QUICK
    )
    said = json.loads(done.stdout)
    assert [one["name"] for one in said["candidates"]] == ["linear on embeddings"]
    assert said["path"] == str(tmp_path / "out")


def test_the_figures_of_test_choose_nothing(eyebright, backbone, photos, tmp_path):
    """The test pictures under other names: the same classifier is kept, to the bit."""
    one, other = tmp_path / "one", tmp_path / "other"
    assert eyebright("transfer", photos, "--from", backbone, "--out", one, *QUICK).returncode == 0
    red, blue, kept = (photos / "val" / name for name in ("red things", "blue things", "kept"))
    red.rename(kept)
    blue.rename(red)
    kept.rename(blue)
    assert eyebright("transfer", photos, "--from", backbone, "--out", other, *QUICK).returncode == 0
    first, second = (json.loads((path / "transfer.json").read_text()) for path in (one, other))
    assert first["kept"] == second["kept"]
    tested = [json.loads((path / "evaluation.json").read_text())["top1"] for path in (one, other)]
    assert tested[0] == pytest.approx(1 - tested[1])
    weights = [Classifier.load(path / "classifier.safetensors").model.state_dict() for path in (one, other)]
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


def test_larger_sizes_are_tried(eyebright, backbone, photos, tmp_path):
    done = eyebright("transfer", photos, "--from", backbone, "--out", tmp_path / "out", *QUICK[:4])
    assert done.returncode == 0, done.stderr
    sizes = json.loads((tmp_path / "out" / "transfer.json").read_text())["sizes"]
    assert list(sizes) == ["24×24", "36×36", "48×48"]
    height, width = Classifier.load(tmp_path / "out" / "classifier.safetensors").prepare.output_size
    assert f"pictures are shown at {height}×{width}; a linear head tried 24×24 (" in done.stdout
    best = max(sizes.values())
    least = best - (best * (1 - best) / 32) ** 0.5
    assert f"{height}×{width}" == next(name for name, accuracy in sizes.items() if accuracy >= least)


def test_another_size_is_said(eyebright, backbone, photos, tmp_path):
    eyebright("transfer", photos, "--from", backbone, "--out", tmp_path / "out", *QUICK, "--size", "40")
    made = Classifier.load(tmp_path / "out" / "classifier.safetensors")
    assert made.prepare.output_size == (40, 40)
    assert made.prepare.mean == (0.3,)


def test_a_run_is_a_backbone(eyebright, photos, tmp_path):
    eyebright("train", "lenet5-digits", "--set", "training.epochs=1", "--out", tmp_path / "run")
    done = eyebright("transfer", photos, "--from", tmp_path / "run", "--out", tmp_path / "out", "--tune", "none")
    assert done.returncode == 0, done.stderr
    made = Classifier.load(tmp_path / "out" / "classifier.safetensors")
    assert made.prepare == Classifier.load(tmp_path / "run" / "classifier.safetensors").prepare  # takes no other size
    assert made.facts["transfer"]["recipe"] == "lenet5-digits"


def test_a_file_of_weights_is_a_backbone(tmp_path, refuses):
    model = eb.create_model("resnet18", num_classes=7, seed=0)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    found = open_backbone("resnet18", str(tmp_path / "weights.pth"))
    assert found.prepare.output_size == (224, 224)
    assert found.model.num_classes == 7
    small = eb.create_model("lenet5", seed=0)
    torch.save(small.state_dict(), tmp_path / "small.pth")
    with refuses(ModelError, "holds weights for lenet5, but not how pictures are prepared for them"):
        open_backbone("lenet5", str(tmp_path / "small.pth"))


def test_offline_it_says_what_to_fetch_and_where_to_put_it(eyebright, photos, tmp_path, offline, monkeypatch):
    monkeypatch.setenv("EYEBRIGHT_DATA", str(tmp_path / "data"))
    done = eyebright("transfer", photos, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "resnet18-f37072fd.pth" in done.stderr
    assert str(tmp_path / "data" / "weights") in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_finished_one_is_not_overwritten(eyebright, backbone, photos, tmp_path):
    out = tmp_path / "out"
    assert eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK).returncode == 0
    done = eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK)
    assert done.returncode == 1
    assert "there is a finished transfer in" in done.stderr
    (out / "transfer.json").unlink()
    done = eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK)
    assert "there are other things in" in done.stderr
    shutil.rmtree(out)
    out.write_text("")
    done = eyebright("transfer", photos, "--from", backbone, "--out", out, *QUICK)
    assert done.returncode == 1
    assert "is a file" in done.stderr


def test_one_process_at_a_time(backbone, photos, tmp_path, refuses):
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / ".lock"),
        refuses(RunError, "another process is at work in"),
    ):
        transfer_from(backbone, data=photos, out=tmp_path / "out", tune=(), views=0)


def test_pictures_in_both_parts_are_told_of(eyebright, backbone, photos, tmp_path):
    shutil.copy(photos / "train" / "red things" / "0.png", photos / "val" / "red things" / "copy.png")
    done = eyebright("transfer", photos, "--from", backbone, "--out", tmp_path / "out", *QUICK)
    assert "1 pictures of the test part stand in the " in done.stderr
    assert (
        "pictures of the test part stand in the "
        in json.loads((tmp_path / "out" / "environment.json").read_text())["notes"][0]
    )


def test_what_will_not_do_leaves_nothing_behind(eyebright, backbone, photos, tmp_path):
    shutil.rmtree(photos / "train" / "red things")
    picture = photos / "train" / "red things" / "0.png"
    picture.parent.mkdir()
    shutil.copy(photos / "val" / "red things" / "0.png", picture)
    done = eyebright("transfer", photos, "--from", backbone, "--out", tmp_path / "out", *QUICK)
    assert done.returncode == 1
    assert "too few to learn from" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--head", "quadratic"), "'quadratic' is not one of"),
        (("--tune", "some"), "'some' is neither"),
        (("--tune", "0"), "'0' is neither"),
    ],
)
def test_wrong_usage(eyebright, photos, options, said):
    done = eyebright("transfer", photos, *options)
    assert done.returncode == 2
    assert said in done.stderr


def test_train_takes_a_run_as_weights(eyebright, backbone, photos, tmp_path):
    """Its classifier's Prepare comes with it, unless the recipe says another."""
    (tmp_path / "run").mkdir()
    shutil.copy(backbone, tmp_path / "run" / "classifier.safetensors")
    recipe = tmp_path / "tune.toml"
    recipe.write_text(
        '[model]\nname = "resnet20_cifar"\n[training]\nepochs = 1\nlearning_rate = 0.01\nfreeze = ["*", "!head"]\n'
    )
    done = eyebright("train", recipe, "--data", photos, "--weights", tmp_path / "run", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    made = Classifier.load(tmp_path / "out" / "classifier.safetensors")
    assert made.prepare == Classifier.load(backbone).prepare
    text = (tmp_path / "out" / "recipe.toml").read_text()
    assert str(tmp_path / "run" / "classifier.safetensors") in text
    own = eb.load_recipe(recipe, [f"model.weights={str(tmp_path / 'run')!r}", "prepare.crop=40"])
    assert (own.prepare.crop, own.prepare.mean, own.prepare.resize) == (40, (0.3,), None)


def test_a_run_is_calibrated(eyebright, tmp_path):
    """Its temperature and its rejection go into a file beside its classifier."""
    run = tmp_path / "run"
    eyebright("train", "lenet5-digits", "--set", "training.epochs=4", "--out", run)
    done = eyebright("calibrate", run)
    assert done.returncode == 0, done.stderr
    assert "the calibration error goes from" in done.stdout
    assert "best of those at telling known classes that are left out in turn (AUROC max_softmax" in done.stdout
    made = Classifier.load(run / "calibrated.safetensors")
    assert made.rejection.options.rate == 0.05
    judged = json.loads(eyebright("evaluate", run / "calibrated.safetensors", "--data", "digits", "--json").stdout)
    plain = json.loads(eyebright("evaluate", run, "--json").stdout)
    assert judged["top1"] == plain["top1"]
    assert judged["loss"] != plain["loss"]
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    seen = eyebright("predict", run / "calibrated.safetensors", tmp_path / "noise.png", "--json")
    assert "known" in json.loads(seen.stdout)[0]
    for form in ("table", "csv"):
        shown = eyebright("predict", run / "calibrated.safetensors", tmp_path / "noise.png", "--format", form)
        assert "answer" in shown.stdout
    said = json.loads(eyebright("calibrate", run, "--false-rejection", "0", "--json").stdout)
    assert said["score"] is None
    assert Classifier.load(run / "calibrated.safetensors").rejection is None


def test_without_validation_nothing_is_calibrated(eyebright, tmp_path):
    run = tmp_path / "run"
    eyebright("train", "lenet5-digits", "--set", "training.epochs=1", "--set", "data.val_fraction=0", "--out", run)
    done = eyebright("calibrate", run)
    assert done.returncode == 1
    assert "no pictures of validation to calibrate" in done.stderr


def test_several_labels_are_not_calibrated(eyebright, backbone, tmp_path):
    made = Classifier.load(backbone)
    made.facts["multi_label"] = True
    made.save(tmp_path / "several.safetensors")
    done = eyebright("calibrate", tmp_path / "several.safetensors", "--data", "digits")
    assert done.returncode == 1
    assert "answers with several labels" in done.stderr


def test_a_folder_with_a_classifier_alone_is_that_classifier(eyebright, backbone, photos, tmp_path):
    """It knows no pictures: they have to be named."""
    eyebright("transfer", photos, "--from", backbone, "--out", tmp_path / "out", *QUICK, "--head", "linear")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tmp_path / "out" / "classifier.safetensors", alone)
    judged = json.loads(eyebright("evaluate", alone, "--data", photos, "--json").stdout)
    assert judged["top1"] == pytest.approx(json.loads((tmp_path / "out" / "evaluation.json").read_text())["top1"])
    assert "no data were named to evaluate" in eyebright("evaluate", alone).stderr
    assert eyebright("calibrate", alone, "--data", photos).returncode == 0


def test_a_classifier_file_alone_needs_data(eyebright, backbone):
    done = eyebright("calibrate", backbone)
    assert done.returncode == 1
    assert "no pictures were named to calibrate" in done.stderr


def test_a_classifier_as_weights_brings_its_prepare(backbone, tmp_path, refuses):
    """Not the published one, though the network has one."""
    plan = choose_plan("cpu", "float32", training=False)
    model = eb.create_model("resnet18", num_classes=10, seed=0)
    prepare = Prepare(resize=64, crop=64)
    Classifier(model, tuple("abcdefghij"), prepare, {}, plan).save(tmp_path / "own.safetensors")
    assert open_backbone("resnet18", str(tmp_path / "own.safetensors")).prepare == prepare
    with refuses(ModelError, "which is no network's name"):
        open_backbone(backbone, "imagenet")


def test_a_transfer_begins_a_training(eyebright, backbone, photos, tmp_path):
    """A classifier that remembers and rejects is also a file of weights."""
    eyebright("transfer", photos, "--from", backbone, "--out", tmp_path / "out", *QUICK, "--head", "linear")
    made = Classifier.load(tmp_path / "out" / "classifier.safetensors")
    assert made.memory is not None
    assert made.rejection is not None
    model = eb.create_model("resnet20_cifar", weights=tmp_path / "out" / "classifier.safetensors")
    assert all(torch.equal(value, made.model.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_runs_folder_is_not_written_into(eyebright, photos, tmp_path):
    eyebright("train", "lenet5-digits", "--set", "training.epochs=1", "--out", tmp_path / "run")
    before = (tmp_path / "run" / "classifier.safetensors").read_bytes()
    done = eyebright("transfer", photos, "--from", tmp_path / "run", "--out", tmp_path / "run", *QUICK)
    assert done.returncode == 1
    assert "there are other things in" in done.stderr
    assert (tmp_path / "run" / "classifier.safetensors").read_bytes() == before


def test_broken_off_the_same_command_goes_on(eyebright, backbone, photos, tmp_path, monkeypatch):

    def interrupt(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    command = ("transfer", photos, "--from", backbone, *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr("eyebright.transferring.evaluate_any", interrupt)
        assert eyebright(*command).returncode == 130
    assert (tmp_path / "runs" / "transfer-photos" / "kept").is_dir()
    assert eyebright(*command).returncode == 0
    assert (tmp_path / "runs" / "transfer-photos" / "transfer.json").exists()
    assert not (tmp_path / "runs" / "transfer-photos" / "kept").exists()
    assert eyebright(*command).returncode == 0
    assert (tmp_path / "runs" / "transfer-photos-2" / "transfer.json").exists()


def test_views_do_not_hide_strangers(eyebright, backbone, photos, tmp_path):
    made = Classifier.load(backbone)
    options = RejectionOptions(score="energy", threshold=-1e9, rate=0.05, features=64, references=0)
    made.rejection = Rejection(options)
    made.save(tmp_path / "doubting.safetensors")
    picture = photos / "val" / "red things" / "0.png"
    for views in ("centre", "shifted"):
        seen = eyebright("predict", tmp_path / "doubting.safetensors", picture, "--views", views, "--json")
        said = json.loads(seen.stdout)[0]
        assert said["known"] is False
        assert said["answer"] == "none of these"
