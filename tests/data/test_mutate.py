import os
import sys
from pathlib import Path

import mutate as mutate_module
import pytest
from mutate import MUTATIONS, SEEDS, correct_checksums, mutate, run
from zoo import READ

from eyebright.data.decode import FORMATS, decode


def check(found, count):
    assert found["crashes"] == []
    assert found["met"] == count == sum(found["outcomes"].values())
    assert found["said"] == ""
    assert found["slowest"]["cpu_seconds"] < 2, found["slowest"]
    assert found["memory_mib"] < 2048
    assert set(found["outcomes"]) == {"read", "refused"} and min(found["outcomes"].values()) > count // 10


def test_pictures_damaged_at_random_are_read_or_refused():
    check(run(2000, first=1_000_000), 2000)


@pytest.mark.slow
def test_twenty_thousand_pictures_damaged_at_random_are_read_or_refused():
    found = run(20_000)
    check(found, 20_000)
    assert all(counts["read"] > 100 and counts["refused"] > 100 for counts in found["by_format"].values())


def test_the_same_number_is_the_same_picture_and_all_kinds_of_damage_are_met():
    made = [mutate(number) for number in range(600)]
    assert made == [mutate(number) for number in range(600)]
    assert {name for name, _, _ in made} == set(SEEDS)
    assert set(MUTATIONS) <= {kind for _, done, _ in made for kind in done}
    assert sum(data != READ[name].make() for name, _, data in made[:50]) >= 48


def test_the_pictures_that_are_damaged_are_whole_and_of_all_formats():
    kinds = {name.removeprefix("turned: ").partition(" ")[0].strip(":").upper() for name in SEEDS}
    assert kinds == set(FORMATS)
    for name in SEEDS:
        assert decode(READ[name].make(), name).shape == READ[name].pixels.shape


def test_a_png_that_was_changed_gets_the_right_checksums():
    data = READ["PNG: grey"].make()
    assert correct_checksums(bytearray(data)) == data
    changed = bytearray(data)
    changed[29:33] = bytes(4)  # the checksum of its header
    assert correct_checksums(changed) == data


SPOILT = """
def decode(data, name, at_least):
    if data == mutate(103)[2]:
        os.abort()
    if data == mutate(105)[2]:
        raise KeyError(5)
    return np.zeros((1, 1, 3), np.uint8)


if __name__ == "__main__":
"""


def test_a_crash_is_told_with_its_number_and_the_rest_goes_on(tmp_path, monkeypatch):
    original = Path(mutate_module.__file__)
    spoilt = tmp_path / "spoilt.py"
    spoilt.write_text(original.read_text().replace('if __name__ == "__main__":\n', SPOILT))
    monkeypatch.setattr(mutate_module, "__file__", str(spoilt))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(original.parent), *sys.path]))
    found = run(10, first=100)
    assert found["met"] == 9
    assert [(crash["number"], crash["how"]) for crash in found["crashes"]] == [
        (103, "ended with -6"),
        (105, "crashed: KeyError(5)"),
    ]
