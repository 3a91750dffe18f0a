import json

import make_performance


def test_the_page_is_made_of_the_records_that_are_there():
    assert make_performance.PAGE.read_text(encoding="utf-8") == make_performance.render(), "run: make docs"


def test_of_each_kind_the_newest_record_counts(tmp_path, monkeypatch):
    for name in ("2026-01-02-training-cpu", "2026-03-01-training-cpu", "2026-02-01-training-cuda", "2026-01-01-other"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name}))
    monkeypatch.setattr(make_performance, "RECORDS", tmp_path)
    found = make_performance.newest("training-*")
    assert [name for name, _ in found] == ["2026-03-01-training-cpu.json", "2026-02-01-training-cuda.json"]
    assert [record["name"] for _, record in found] == [name.removesuffix(".json") for name, _ in found]
