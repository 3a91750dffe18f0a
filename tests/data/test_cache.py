import pytest

from eyebright.data.cache import make_once


def test_of_one_file_two_kinds_of_folders_may_be_made_each_once(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x")
    made = []

    def make(kind):
        def write(folder):
            made.append(kind)
            (folder / kind).write_bytes(b"x")

        return make_once(tmp_path / "a.bin", kind, write)

    for _ in range(2):
        for kind in ("tables", "archives"):
            assert [path.name for path in make(kind).iterdir()] == [kind]
    assert made == ["tables", "archives"]


def test_what_could_not_be_made_leaves_nothing(tmp_path, own_cache):
    (tmp_path / "a.bin").write_bytes(b"x")

    def write(folder):
        (folder / "1.png").write_bytes(b"x")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        make_once(tmp_path / "a.bin", "tables", write)
    assert not list((own_cache / "tables").iterdir())
