import csv
import io
import json
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyebright.cli import main
from eyebright.errors import EyebrightError
from eyebright.training.recipe import list_recipes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, made by a real process."""
    path = tmp_path_factory.mktemp("cli") / "run"
    options = ["--out", str(path), "--set", "training.epochs=2", "--seed", "3", "--json"]
    command = [sys.executable, "-m", "eyebright.cli.main", "train", "lenet5-digits", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["evaluation"]["count"] == 360
    assert Path(answer["report"]).exists()
    return path


@pytest.fixture
def folder(tmp_path):
    """A small right folder of two classes, to be spoilt by a test."""
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(12):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.jpg")
    return tmp_path / "data"


def test_help_names_every_command(eyebright):
    done = eyebright("--help")
    assert done.returncode == 0
    for command in ("train", "evaluate", "predict", "models", "data", "recipes", "report", "verify"):
        assert command in done.stdout


def test_version(eyebright):
    assert eyebright("--version").stdout == "eyebright 0.1.0\n"


def test_evaluate_prints_one_json_object_with_the_promised_keys(eyebright, run):
    done = eyebright("evaluate", run, "--split", "val", "--json")
    figures = json.loads(done.stdout)
    assert {"top1", "top1_interval", "top5", "loss", "count", "classes", "confusion", "per_class"} <= figures.keys()
    assert figures["count"] == 144
    assert np.trace(figures["confusion"]) / 144 == pytest.approx(figures["top1"])
    low, high = figures["top1_interval"]
    assert 0 <= low < figures["top1"] < high <= 1


def test_evaluate_prints_a_table(eyebright, run):
    done = eyebright("evaluate", run, "--split", "val")
    assert "top-1" in done.stdout
    assert "recall" in done.stdout


def test_predict_as_table_json_and_csv(eyebright, run, tmp_path):
    (tmp_path / "loose").mkdir()
    for index in range(2):
        Image.new("L", (8, 8), 60 * index).save(tmp_path / "loose" / f"{index}.png")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(tmp_path / "loose" / "0.png", "inside/0.png")
    places = (tmp_path / "loose", tmp_path / "loose" / "1.png", tmp_path / "more.zip")
    answers = json.loads(eyebright("predict", run, *places, "--json", "--top", 3).stdout)
    assert [Path(answer["picture"]).name for answer in answers] == ["0.png", "1.png", "1.png", "0.png"]
    assert answers[1]["top"] == answers[2]["top"]
    assert answers[0]["top"] == answers[3]["top"]
    assert len(answers[0]["top"]) == 3
    rows = list(csv.DictReader(io.StringIO(eyebright("predict", run, *places, "--format", "csv", "--top", 2).stdout)))
    assert [row["class_1"] for row in rows] == [answer["top"][0]["class"] for answer in answers]
    assert list(rows[0]) == ["picture", "class_1", "probability_1", "class_2", "probability_2"]
    table = eyebright("predict", run, *places).stdout
    assert "1.png" in table
    assert "%" in table


def test_views_of_evaluate_and_predict(eyebright, run, tmp_path):
    centre = json.loads(eyebright("evaluate", run, "--split", "val", "--json").stdout)
    dense = json.loads(eyebright("evaluate", run, "--split", "val", "--views", "dense", "--scale", 32, "--json").stdout)
    larger = eyebright("evaluate", run, "--split", "val", "--views", "dense", "--scale", 36, "--scale", 40, "--json")
    assert dense["loss"] == pytest.approx(centre["loss"], rel=1e-5)
    assert json.loads(larger.stdout)["loss"] != pytest.approx(centre["loss"], rel=1e-3)
    Image.effect_noise((8, 8), 90).save(tmp_path / "0.png")
    places = ("predict", run, tmp_path / "0.png", "--json", "--views", "dense")
    found, same = (json.loads(eyebright(*places, "--scale", size).stdout)[0]["top"] for size in (48, 32))
    plain = json.loads(eyebright("predict", run, tmp_path / "0.png", "--json").stdout)[0]["top"]
    assert same[0]["probability"] == pytest.approx(plain[0]["probability"], rel=1e-5)
    assert found[0]["probability"] != pytest.approx(plain[0]["probability"], rel=1e-5)
    done = eyebright("evaluate", run, "--views", "10-crop")
    assert (done.returncode, "did you mean '10-crops'?" in done.stderr) == (1, True)
    done = eyebright("evaluate", run, "--views", "10-crops")
    assert (done.returncode, "crops of 32×32 from pictures of 32 pixels" in done.stderr) == (1, True)


def test_engines_of_evaluate_and_predict(eyebright, run, tmp_path):
    pytest.importorskip("nncf")
    evaluate, kept = ("evaluate", run, "--json", "--engine"), json.loads((run / "evaluation.json").read_text())
    plain, fast, small = (
        json.loads(eyebright(*evaluate, name).stdout) for name in ("float32", "openvino", "openvino-int8")
    )
    assert fast["engine"].startswith("openvino ") and small["engine"] == "openvino-int8"
    assert fast["loss"] == pytest.approx(plain["loss"], rel=1e-2) and fast["loss"] != plain["loss"]
    assert abs(small["top1"] - plain["top1"]) < 0.02
    now = json.loads((run / "evaluation.json").read_text())
    assert (now["loss"], now["engine"]) == (kept["loss"], kept["engine"])  # others' figures are not the run's
    Image.effect_noise((8, 8), 90).save(tmp_path / "0.png")
    predict = ("predict", run, tmp_path / "0.png", "--json", "--top", 10, "--engine")
    names = ("auto", "openvino", "openvino-int8")
    ours, theirs, whole = (json.loads(eyebright(*predict, name).stdout)[0]["top"] for name in names)
    ours, theirs, whole = ({row["class"]: row["probability"] for row in top} for top in (ours, theirs, whole))
    assert theirs == pytest.approx(ours, abs=0.05)
    assert whole == pytest.approx(ours, abs=0.2) and whole != ours
    classifier = ("predict", run / "classifier.safetensors", tmp_path / "0.png", "--json", "--engine", "openvino-int8")
    assert "0 pictures to calibrate" in eyebright(*classifier).stderr
    calibrated = json.loads(eyebright(*classifier, "--calibrate", "digits").stdout)
    assert calibrated[0]["top"][0]["probability"] == pytest.approx(max(ours.values()), abs=0.2)
    assert "was to be applied densely" in eyebright(*evaluate, "openvino", "--views", "dense", "--scale", 36).stderr


def test_train_with_folds_tells_mean_and_interval_and_is_resumed(eyebright, tmp_path):
    options = ("train", "lenet5-digits", "--folds", 2, "--set", "training.epochs=1", "--out", tmp_path / "all")
    told = json.loads(eyebright(*options, "--json").stdout)
    assert [fold["fold"] for fold in told["folds"]] == [1, 2]
    mean = sum(fold["val_accuracy"] for fold in told["folds"]) / 2
    assert told["val_accuracy"]["mean"] == pytest.approx(mean)
    said = eyebright("train", "--resume", tmp_path / "all").stdout
    assert f"fold-2: validation accuracy {told['folds'][1]['val_accuracy']:.2%}\nmean {mean:.2%}, standard" in said
    assert f"runs:   {tmp_path / 'all'}" in said
    assert eyebright("train", "--resume", tmp_path / "all", "--folds", 2).returncode == 2


def test_several_labels_of_a_picture_are_evaluated_and_predicted(eyebright, tmp_path):
    random = np.random.default_rng(0)
    lines = ["path,label"]
    for index in range(20):
        Image.fromarray(random.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{('a', 'b', 'a|b', 'b;c')[index % 4]}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    counts = json.loads(eyebright("data", tmp_path / "list.csv", "--json").stdout)["counts"]
    assert {name: sum(part[name] for part in counts.values()) for name in "abc"} == {"a": 10, "b": 15, "c": 5}
    options = ("--set", "training.epochs=1", "--set", "training.loss=binary_cross_entropy", "--out", tmp_path / "run")
    done = eyebright("train", "lenet5-digits", "--data", tmp_path / "list.csv", *options)
    assert done.returncode == 0, done.stderr
    told = json.loads(eyebright("evaluate", tmp_path / "run", "--json").stdout)
    assert {"exact_match", "mean_average_precision", "micro", "macro", "per_class"} <= told.keys()
    said = eyebright("evaluate", tmp_path / "run").stdout
    assert "micro mean" in said and "ROC AUC" in said and "most confused" not in said
    places = ("predict", tmp_path / "run", tmp_path / "0.png", tmp_path / "1.png")
    answers = json.loads(eyebright(*places, "--json").stdout)
    for answer in answers:
        assert answer["labels"] == [row["class"] for row in answer["top"] if row["probability"] >= 0.5]
    rows = list(csv.DictReader(io.StringIO(eyebright(*places, "--format", "csv").stdout)))
    assert [row["labels"].split(";") for row in rows] == [answer["labels"] or [""] for answer in answers]
    assert "labels" in eyebright(*places).stdout


def test_verify_names_every_file_and_what_is_wrong(eyebright, run, tmp_path):
    done = eyebright("verify", run)
    assert (done.returncode, done.stdout.count("whole    "), "damaged" in done.stdout) == (0, 11, False)
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-2])
    done = eyebright("verify", copy)
    assert done.returncode == 1
    assert "damaged  metrics.jsonl: cannot read" in done.stdout
    found = json.loads(eyebright("verify", copy, "--json").stdout)
    assert [name for name, problem in found.items() if problem] == ["metrics.jsonl"]
    assert "whole" in eyebright("verify", run / "classifier.safetensors").stdout


def test_what_we_warn_of_is_one_plain_line(eyebright, run, tmp_path):
    (tmp_path / "some" / "1").mkdir(parents=True)
    Image.new("L", (8, 8), 60).save(tmp_path / "some" / "1" / "x.png")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = eyebright("evaluate", run, "--data", tmp_path / "some")
    assert done.returncode == 0
    assert done.stderr == "warning: the data has no pictures of 0, 2, 3, 4, 5, 6, 7, 8, 9\n"


def test_others_warnings_keep_their_place(monkeypatch, capsys):
    def warn():
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    monkeypatch.setattr(main, "app", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main.main()
    assert "test_main.py" in capsys.readouterr().err


def test_a_finished_run_says_so_and_exits_0(eyebright, run):
    done = eyebright("train", "--resume", run)
    assert (done.returncode, "is finished" in done.stderr) == (0, True)


@pytest.mark.parametrize(
    "option",
    [
        ("--weights", "imagenet"),
        ("--data", "x"),
        ("--set", "a.b=1"),
        ("--out", "x"),
        ("--seed", "0"),
        ("--skip-unreadable",),
        ("--curation", "x.csv"),
        ("--device", "cpu"),
    ],
)
def test_a_run_is_resumed_as_it_was_begun(eyebright, run, option):
    done = eyebright("train", "--resume", run, *option)
    assert (done.returncode, "a run is resumed as it was begun" in done.stderr) == (2, True)


def test_models_counts_what_would_be_frozen(eyebright):
    patterns = ("--freeze", "*", "--freeze", "!head", "--freeze", "!layer4.2")
    values = json.loads(eyebright("models", "resnet50", "--classes", 2, *patterns, "--json").stdout)
    assert values["trainable"] == 4_465_664 - 3_072 + 4_098  # lecture 3's last block, without biases, and the head
    assert values["frozen"] == values["parameters"] - values["trainable"]
    shown = eyebright("models", "resnet50", "--classes", 2, *patterns).stdout
    assert "trained" in shown
    assert "4,466,690" in shown
    assert "trained" not in eyebright("models", "resnet50").stdout
    done = eyebright("models", "lenet5", "--freeze", "c7")
    assert (done.returncode, "names nothing with weights in lenet5" in done.stderr) == (1, True)
    assert eyebright("models", "--freeze", "c1").returncode == 2


def test_models_counts_lecture_2s_parameters(eyebright):
    assert "57,044,810" in eyebright("models", "alexnet", "--classes", 10).stdout
    assert json.loads(eyebright("models", "alexnet", "--classes", 10, "--json").stdout)["parameters"] == 57_044_810


def test_recipes_are_listed_and_printed(eyebright, tmp_path):
    listed = eyebright("recipes").stdout
    assert all(name in listed for name in list_recipes())
    text = eyebright("recipes", "resnet32-cifar10").stdout
    assert 'extends = "resnet20-cifar10"' in text
    (tmp_path / "mine.toml").write_text(eyebright("recipes", "lenet5-digits").stdout)
    whole = eyebright("recipes", "resnet32-cifar10", "--full").stdout
    assert "milestones" in whole


def test_data_counts_and_draws(eyebright, folder, tmp_path):
    found = json.loads(eyebright("data", folder, "--json", "--figure", tmp_path / "samples.png").stdout)
    assert {part: sum(classes.values()) for part, classes in found["counts"].items()} == {
        "train": 17,
        "val": 2,
        "test": 5,
    }
    assert found["parts"]["train"]["formats"] == {"JPEG": 17}
    assert [warning["kind"] for warning in found["warnings"]] == ["few_pictures"]
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size[0] > 300


def test_data_says_what_is_wrong_and_goes_on(eyebright, folder):
    truncate(folder / "cats" / "3.jpg")
    shutil.copy(folder / "cats" / "4.jpg", folder / "dogs" / "again.jpg")
    done = eyebright("data", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be read: cats/3.jpg (" in done.stdout
    assert "1 picture stands under more than one class: " in done.stdout
    assert "always the most frequent class" in done.stdout


def test_unreadable_pictures_are_left_out_and_decisions_applied(eyebright, folder, tmp_path):
    truncate(folder / "cats" / "3.jpg")
    (tmp_path / "decisions.csv").write_text("path,decision,label\ndogs/1.jpg,drop,\ndogs/2.jpg,relabel,cats\n")
    done = eyebright(*(part.format(data=folder, out=tmp_path / "run") for part in TRAIN))
    assert_clear_error(done, "--skip-unreadable")
    options = ("--skip-unreadable", "--curation", tmp_path / "decisions.csv")
    seen = json.loads(plainly(eyebright, "data", folder, *options, "--json"))
    assert {name: sum(part[name] for part in seen["counts"].values()) for name in ("cats", "dogs")} == {
        "cats": 12,
        "dogs": 10,
    }
    assert seen["unreadable"] == []
    train = [part.format(data=folder, out=tmp_path / "run") for part in TRAIN]
    plainly(eyebright, *train, "--set", "training.epochs=1", *options)
    test = sum(seen["counts"]["test"].values())
    assert json.loads(plainly(eyebright, "evaluate", tmp_path / "run", "--json"))["count"] == test
    whole = ("evaluate", tmp_path / "run", "--data", f"{folder}/", "--json")
    assert json.loads(plainly(eyebright, *whole, *options))["count"] == 22


def plainly(eyebright, *arguments):
    """What is printed where all goes well and the unreadable picture is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = eyebright(*arguments)
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of 23 pictures are left out because they cannot be read: cats/3.jpg (" in done.stderr
    return done.stdout


def test_data_shows_how_far_it_is_on_a_terminal_alone(eyebright, folder, monkeypatch):
    assert eyebright("data", folder, "--json").stderr == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take any stream for a terminal
    done = eyebright("data", folder, "--json")
    assert "41/41" in done.stderr  # 24 pictures, and the 17 of train once more
    assert json.loads(done.stdout)


def test_data_refuses_a_figure_of_another_form_before_it_reads(eyebright, folder, tmp_path):
    done = eyebright("data", tmp_path / "nowhere", "--figure", tmp_path / "samples.gif")
    assert_clear_error(done, "cannot draw into")


def test_data_draws_what_a_recipe_makes_of_it(eyebright, folder, tmp_path):
    done = eyebright("data", folder, "--augment", "cnn-binary-224", "--figure", tmp_path / "augmented.png")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "augmented.png") as picture:
        assert picture.size[0] > 300
    done = eyebright("data", folder, "--augment", "cnn-binary-224")
    assert done.returncode == 2 and "give --figure FILE" in done.stderr


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def spoil_picture(content):
    def spoil(folder):
        (folder / "cats" / "3.jpg").write_bytes(content)

    return spoil


class Trap:
    """Its pickle would create a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


TRAIN = ["train", "cnn-binary-224", "--data", "{data}", "--out", "{out}", "--set", "prepare.resize=[32,32]"]

# what is spoilt, how it is asked for, and what the error has to say
BAD_INPUT = {
    "unknown recipe": (None, ["train", "lenet5-digit"], "did you mean 'lenet5-digits'?"),
    "unknown recipe key": (None, ["train", "lenet5-digits", "--set", "training.epoch=3"], "did you mean 'epochs'?"),
    "value out of range": (
        None,
        ["train", "lenet5-digits", "--set", "training.epochs=0"],
        "greater than or equal to 1",
    ),
    "missing folder": (None, ["train", "cnn-binary-224", "--data", "{data}/nowhere"], "there is no data at"),
    "empty class": (lambda folder: (folder / "birds").mkdir(), TRAIN, "the class 'birds'"),
    "one class only": (lambda folder: shutil.rmtree(folder / "dogs"), TRAIN, "one class only: cats"),
    "too small pictures": (
        None,
        [*TRAIN, "--set", "model.name=alexnet", "--set", "training.loss=nll"],
        "at least 63×63",
    ),
    "truncated JPEG": (lambda folder: truncate(folder / "cats" / "3.jpg"), TRAIN, "cats/3.jpg"),
    "text named .jpg": (spoil_picture(b"not a picture"), TRAIN, "it looks like text: 'not a picture'"),
    "empty file": (spoil_picture(b""), TRAIN, "the file is empty"),
    "pictures of another channel count": (None, ["train", "lenet5-digits", "--set", "prepare.channels=2"], "channels"),
    "unknown network": (None, ["train", "lenet5-digits", "--set", "model.name=lenet6"], "did you mean 'lenet5'?"),
    "unknown option of a network": (
        None,
        ["train", "lenet5-digits", "--set", "model.droput=0.5"],
        "no option 'droput'",
    ),
    "no such device": (None, ["train", "lenet5-digits", "--device", "cuda:99"], "is not on this machine"),
    "no such engine": (None, ["predict", "{data}", "{data}", "--engine", "openvin"], "did you mean 'openvino'?"),
    "not a run": (None, ["train", "--resume", "{data}"], "is neither a run nor a transfer"),
    "nothing to predict": (None, ["predict", "{data}", "{data}/nowhere.png"], "there is nothing at"),
}


@pytest.mark.parametrize("kind", BAD_INPUT)
def test_bad_input_exits_1_with_a_clear_error(eyebright, kind, folder, tmp_path):
    spoil, arguments, says = BAD_INPUT[kind]
    if spoil is not None:
        spoil(folder)
    out = tmp_path / "run"
    arguments = [argument.format(data=folder, out=out) for argument in arguments]
    if arguments[0] == "train" and "--out" not in arguments and "--resume" not in arguments:
        arguments += ["--out", str(out)]
    done = eyebright(*arguments)
    assert_clear_error(done, says)
    assert not out.exists()  # the same command can be given again, corrected


def assert_clear_error(done, says):
    assert done.returncode == 1, done.stderr
    error = done.stderr[done.stderr.index("error: ") :]
    assert says in error
    assert "\n  expected: " in error
    assert "\n  to do: " in error
    assert "Traceback" not in done.stderr


def test_a_damaged_archive_is_refused(eyebright, tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in folder.rglob("*.jpg"):
            archive.write(path, path.relative_to(folder))
    truncate(tmp_path / "data.zip")
    done = eyebright("train", "cnn-binary-224", "--data", tmp_path / "data.zip", "--out", tmp_path / "run")
    assert_clear_error(done, "refused the archive")


def test_a_pickle_named_safetensors_is_never_opened(eyebright, tmp_path, folder):
    trap = tmp_path / "sprung"
    (tmp_path / "c.safetensors").write_bytes(pickle.dumps(Trap(trap)))
    done = eyebright("predict", tmp_path / "c.safetensors", folder / "cats" / "1.jpg")
    assert_clear_error(done, "a Python pickle")
    assert not trap.exists()


def test_a_folder_that_cannot_be_written_is_said(eyebright, tmp_path):
    (tmp_path / "file").write_text("")  # even root cannot make a folder inside a file
    done = eyebright("train", "lenet5-digits", "--out", tmp_path / "file" / "run")
    assert_clear_error(done, "cannot write")


@pytest.mark.parametrize("arguments", [["train"], ["train", "lenet5-digits", "--resume", "x"], ["trian"], ["predict"]])
def test_wrong_usage_exits_2(eyebright, arguments):
    done = eyebright(*arguments)
    assert done.returncode == 2
    assert "Usage" in done.stderr


def test_a_root_error_is_printed_whole(monkeypatch, capsys):
    def fail():
        raise EyebrightError("a", expected="b", remedy="c")

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as stop:
        main.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: a\n  expected: b\n  to do: c\n"
