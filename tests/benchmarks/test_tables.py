"""Tables of the latest record of each processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.tables import latest_records, record_markdown


def _record(flags: list[str], rate: int, device: str = "CPU, 2 threads") -> dict[str, Any]:
    hardware = {"cpu": "Some", "cores": 2, "threads": 2, "flags": flags, "gpu": None, "load_before": 0.0}
    about = {"title": "T", "command": "c", "created": "now", "device": device, "repeats": 1, "commit": "1"}
    return {**about, "hardware": hardware, "versions": {"torch": "2"}, "rows": [{"images_per_s": rate}]}


def test_processors_of_the_same_name_differ_by_their_flags(tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    records = [_record(["avx2"], 1), _record(["avx2", "amx_bf16"], 2), _record(["avx2"], 3)]
    file.write_text(json.dumps(records), encoding="utf-8")
    latest = latest_records(file)
    assert [record["rows"][0]["images_per_s"] for record in latest] == [3, 2]
    assert "| 3 |" in record_markdown(latest[0])
    assert "avx2 amx_bf16;" in record_markdown(latest[1])
