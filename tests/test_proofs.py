"""The proofs of `make prove` in their small form: kills, power cuts, damage, hostile inputs, pickles, full disks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("proofs") / "results.json"
    command = [sys.executable, str(BENCH / "prove.py"), "--small", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert path.exists(), done.stderr[-3000:]
    return json.loads(path.read_text())


def test_runs_that_are_killed_at_any_moment_end_bit_equal(results):
    rows = results["kills"]
    assert len(rows) == 6
    assert sum(row["moment"] != "step" for row in rows) == 4
    assert all(row["hit"] for row in rows), rows
    assert all(0 <= row["checkpoint"] <= row["step"] <= row["steps"] for row in rows), rows
    assert [row["differences"] for row in rows] == [[]] * 6


def test_runs_begun_anew_are_bit_equal(results):
    assert [row["differences"] for row in results["fresh runs"]] == [[], []]


def test_batches_do_not_depend_on_the_workers(results):
    assert [(row["workers"], row["different"]) for row in results["workers"]] == [([0, 1, 2, 4], [])] * 2
    assert all(row["batches"] > 10 for row in results["workers"])


def test_after_a_power_cut_the_last_safe_checkpoint_is_there(results):
    rows = results["power cuts"]
    assert len(rows) == 60
    assert [row for row in rows if row["problem"] is not None] == []
    assert rows[-1]["restored"] == rows[-1]["safe"] > rows[0]["safe"]


def test_damaged_files_are_detected_in_little_memory(results):
    *rows, memory = results["damaged files"]
    assert sum(row["count"] for row in rows) == 400
    assert [row for row in rows if row["undetected"] or row["crashed"]] == []
    assert memory["memory_mib"] < 200


def test_hostile_inputs_are_refused_and_leave_nothing_behind(results):
    assert len(results["hostile inputs"]) >= 40
    assert [row for row in results["hostile inputs"] if not row["ok"]] == []


def test_pickles_in_disguise_are_never_executed(results):
    rows = results["pickles"]
    assert len(rows) == 50
    assert all(row["trap works"] for row in rows)
    assert [row for row in rows if row["executed"] or row["code"] != 1] == []


def test_a_cache_that_two_processes_make_and_one_is_killed_is_right(results):
    rows = results["caches"]
    assert len(rows) == 4
    assert any(row["hit"] for row in rows)
    assert [row for row in rows if row["other"] or row["wrong"] or row["unfinished"]] == []


@pytest.mark.parametrize("kind", ["full disks", "small disks"])
def test_a_full_disk_leaves_what_was_there_and_says_so(results, kind):
    if not results[kind]:
        pytest.skip("this user may not mount a small file system")
    assert [row for row in results[kind] if not row["ok"]] == []


PROVE = """
import sys
sys.path.insert(0, {bench!r})
from eyebright import files
{spoil}
import prove
sys.argv = ["prove", "--small", "--only", {proof!r}]
prove.main()
"""

SPOILT = {
    "nothing is synced": (
        "power cuts",
        "def write(path, content):\n"
        "    temporary = path.with_name('.x.part')\n"
        "    descriptor = files.os.open(temporary, files.os.O_WRONLY | files.os.O_CREAT)\n"
        "    for piece in content:\n"
        "        files._write(descriptor, piece)\n"
        "    files.os.close(descriptor)\n"
        "    files.os.replace(temporary, path)\n"
        "    files._sync_folder(path.parent)\n"
        "from eyebright import tensors\n"
        "files.write_atomically = tensors.write_atomically = write",
    ),
    "lines are not synced": ("power cuts", "from eyebright.training import run\nrun.sync = lambda path: None"),
    "dropout is not derived": (
        "kills",
        "from contextlib import contextmanager\nfrom eyebright.training import fit\n"
        "fit.seeded = contextmanager(lambda *purpose: (yield))",
    ),
    "no checksum": (
        "damaged files",
        "from eyebright import tensors\n"
        "tensors._read_checked = lambda file, path, what: file.read(8) and file.read(int.from_bytes("
        "path.read_bytes()[:8], 'little'))",
    ),
    "written in place": (
        "full disks",
        "def write(path, content):\n"
        "    with files.as_output_error(path):\n"
        "        descriptor = files.os.open(path, files.os.O_WRONLY | files.os.O_CREAT | files.os.O_TRUNC)\n"
        "        for piece in content:\n"
        "            files._write(descriptor, piece)\n"
        "from eyebright import tensors\n"
        "files.write_atomically = tensors.write_atomically = write",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPOILT)
def test_the_proofs_fail_where_something_is_wrong(name):
    proof, spoil = SPOILT[name]
    program = PROVE.format(bench=str(BENCH), spoil=spoil, proof=proof)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "did not hold" in done.stdout
