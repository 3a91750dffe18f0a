"""What the README promises works."""

import re
from pathlib import Path

from PIL import Image
from typer.main import get_command

from eyebright.cli.main import app
from eyebright.models.catalog import list_models
from eyebright.models.published import find_weights
from eyebright.training.recipe import list_recipes, load_recipe

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_two_commands_come_first():
    lines = README.splitlines()
    assert lines[1].startswith("make demo ")
    assert lines[2].startswith("make test ")


def test_every_command_line_is_understood():
    commands = get_command(app).commands
    blocks = "\n".join(re.findall(r"```\n(.*?)```", README, re.DOTALL))
    lines = re.findall(r"^eyebright (\w+)(.*)$", blocks, re.MULTILINE)
    assert len(lines) >= 8
    for name, rest in lines:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        words = rest.split("#")[0].split(";")[0].split()
        assert {word for word in words if word.startswith("--")} <= options
        if name == "train" and not words[0].startswith("--") and not words[0].endswith(".toml"):
            changes = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
            assert words[0] in list_recipes()
            load_recipe(words[0], changes)
        if name in ("models", "predict", "evaluate") and ("--weights" in words or name == "models"):
            named = [word for word in words[:1] if not word.startswith("--")]
            assert set(named) <= set(list_models())
            if "--weights" in words:
                assert find_weights(named[0], words[words.index("--weights") + 1])


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8), 90).save("picture.png")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(example, namespace)
    out = capsys.readouterr().out
    assert "epoch 5" in out
    assert "top-1" in out
    assert (tmp_path / "digits.safetensors").exists()
    assert (tmp_path / "runs" / "first" / "report.html").exists()


def test_every_lecture_item_has_a_row():
    features = (Path(__file__).parent.parent / "docs" / "features.md").read_text()
    rows = re.findall(r"^\| (\d\.\d+) \| .+ \| (works|partly|to come) \|", features, re.MULTILINE)
    items = {1: 12, 2: 9, 3: 14, 4: 11, 5: 11}
    expected = [f"{lecture}.{item}" for lecture, count in items.items() for item in range(1, count + 1)]
    assert [number for number, _ in rows] == expected
