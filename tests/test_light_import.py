"""What must stay light: nothing heavy is loaded before it is needed."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "pydantic", "matplotlib", "sklearn", "scipy", "PIL", "safetensors", "jinja2")


def loaded_after(code):
    script = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("code", ["import eyebright", "import eyebright.cli.main"])
def test_nothing_heavy_is_imported(code):
    assert not loaded_after(code) & set(HEAVY)


def test_asking_for_help_imports_nothing_heavy():
    code = """
from eyebright.cli.main import app
try:
    app(["--help"])
except SystemExit:
    pass
"""
    assert not loaded_after(code) & set(HEAVY)


def test_matplotlib_opens_no_window():
    assert "matplotlib.pyplot" not in loaded_after("import eyebright.inspection.report")
