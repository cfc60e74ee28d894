"""A project's routes as its page uses them: cells, labels, classes, events, uploads and exports."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
from PIL import Image

from nephros.annotation.adding import AddedCells
from nephros.server.project.import_jobs import ImportJobs
from nephros.server.project.schemas import JobInfo
from tests.conftest import square_images
from tests.server.json_schema import response_schema, schema_errors
from tests.server.live_server import LiveServer, encode_image, encode_npz
from tests.server.project.conftest import N_CELLS
from tests.server.project.project_client import ProjectClient

IMAGES = square_images(N_CELLS, 4, 3)[0]


def test_the_project_describes_itself(client: ProjectClient) -> None:
    project = client.get("/project")
    assert project["name"] == "kidney"
    assert project["n_cells"] >= N_CELLS
    assert project["image"] == {"height": 28, "width": 28, "channels": 1}
    assert [item["name"] for item in project["classes"][:2]] == ["tubule", "glomerulus"]
    assert all(re.fullmatch("#[0-9a-f]{6}", item["color"]) for item in project["classes"])
    assert project["has_stack"] is False


def test_requests_for_another_project_are_refused(client: ProjectClient) -> None:
    before = client.get("/project")
    change = {"annotator": "a", "changes": [{"cell": 0, "class": 0}]}
    for project_id, expected in (("another", 412), (before["id"], 200)):
        header = {"X-Nephros-Project": project_id}
        assert client.server.request("GET", "/project/images?cells=0", headers=header)[0] == expected
    status, error = client.send("POST", "/project/labels", change, headers={"X-Nephros-Project": "another"})
    assert (status, list(error)) == (412, ["error"])
    assert client.get("/project")["seq"] == before["seq"]


def test_images_are_the_pixels_in_the_order_of_the_request(client: ProjectClient) -> None:
    status, headers, body = client.server.request("GET", "/project/images?cells=7,0,31")
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-length"] == str(len(body))
    assert (np.frombuffer(body, np.uint8).reshape(3, 28, 28) == IMAGES[[7, 0, 31]]).all()


def test_the_order_has_all_cells_once_and_filters_narrow_it(client: ProjectClient) -> None:
    client.label("orderly", {3: 0, 4: 1})
    client.wait_for_model()
    n_cells = client.get("/project")["n_cells"]
    for sort in ("position", "uncertainty", "ood", "recent"):
        assert sorted(client.cells(f"/project/order?sort={sort}")) == list(range(n_cells)), sort
    ascending = client.cells("/project/order?sort=position")
    assert client.cells("/project/order?sort=position&descending=true") == ascending[::-1]
    mine = client.cells("/project/order?filter=mine&annotator=orderly")
    assert sorted(mine) == [3, 4]
    unlabeled = client.cells("/project/order?filter=unlabeled")
    assert not {3, 4} & set(unlabeled)
    assert client.cells("/project/order?filter=mine&filter=unlabeled&annotator=orderly") == []
    assert client.cells("/project/order?sort=similarity&to=9")[0] == 9


def test_labels_are_shown_with_their_annotators_and_history(client: ProjectClient) -> None:
    before = client.get("/project")["seq"]
    saved = client.label("ann", {10: 0, 11: 1})
    assert saved["seq"] == before + 2
    client.label("bob", {10: 1})
    client.label("bob", {11: None})
    client.wait_for_model()
    first, second = client.get("/project/cells?cells=10,11")
    assert (first["label"], first["labels_by"]) == (1, {"ann": 0, "bob": 1})
    assert (second["label"], second["labels_by"]) == (None, {"ann": 1})
    card = client.get("/project/cells/10")
    assert [(entry["annotator"], entry["class"]) for entry in card["history"]] == [("ann", 0), ("bob", 1)]
    assert card["image"].startswith("data:image/png;base64,")
    assert card["location"] is None
    assert 10 in client.cells("/project/order?filter=disagrees")
    (pair,) = [pair for pair in client.get("/project/agreement") if {pair["a"], pair["b"]} == {"ann", "bob"}]
    assert (pair["n_both"], pair["n_disagree"]) == (1, 1)
    assert {"ann", "bob"} <= {item["name"] for item in client.get("/project")["annotators"]}


def test_an_undone_label_leaves_the_other_annotators(client: ProjectClient) -> None:
    client.label("undo-bo", {12: 0})
    client.label("undo-ada", {12: 1})
    changes = [{"cell": 12, "class": None, "undo": True}]
    client.change("POST", "/project/labels", {"annotator": "undo-ada", "changes": changes})
    (cell,) = client.get("/project/cells?cells=12")
    assert (cell["label"], cell["labels_by"]) == (0, {"undo-bo": 0})
    history = client.get("/project/cells/12")["history"]
    assert [(entry["annotator"], entry["class"], entry["is_undo"]) for entry in history] == [
        ("undo-bo", 0, False),
        ("undo-ada", 1, False),
        ("undo-ada", None, True),
    ]
    assert not [pair for pair in client.get("/project/agreement") if "undo-ada" in (pair["a"], pair["b"])]


def test_classes_are_added_edited_and_merged(client: ProjectClient) -> None:
    html = "<img src=x onerror=alert(1)> & co"
    added = client.change("POST", "/project/classes", {"name": html})
    class_id = added["id"]
    assert {item["id"]: item["name"] for item in added["classes"]}[class_id] == html
    client.label("merger", {20: class_id})
    edited = client.change("PATCH", f"/project/classes/{class_id}", {"name": "vessel", "color": "#112233"})
    (item,) = [item for item in edited["classes"] if item["id"] == class_id]
    assert item == {"id": class_id, "name": "vessel", "color": "#112233", "n_labels": 1}
    merged = client.change("POST", f"/project/classes/{class_id}/merge", {"into": 1})
    assert class_id not in {item["id"] for item in merged["classes"]}
    assert client.get("/project/cells?cells=20")[0]["label"] == 1


def test_two_pages_see_each_others_labels(client: ProjectClient) -> None:
    with client.events() as events, client.events() as other_events:
        for stream in (events, other_events):
            name, first = next(stream)
            assert name == "change"
        client.label("carol", {25: 0})
        seq = client.label("carol", {26: 1})["seq"]
        for stream in (events, other_events):
            while (event := next(stream))[1].get("seq", 0) < seq:
                assert event[0] in ("change", "job")
    assert first["n_cells"] >= N_CELLS


def test_uploads_add_cells_and_say_what_could_not_be_read(client: ProjectClient) -> None:
    images = square_images(5, 4, 77)[0]
    before = client.get("/project")["n_cells"]
    status, added = client.upload(
        "/project/cells",
        [("more.npz", encode_npz(images=images[:3])), ("a.png", encode_image(images[3])), ("b.png", b"no")],
    )
    assert status == 200, added
    assert (added["n_added"], len(added["errors"])) == (4, 1)
    assert client.get("/project")["n_cells"] == before + 4
    body = client.server.request("GET", f"/project/images?cells={before}")[2]
    assert any(body == image.tobytes() for image in images)


def test_imports_of_two_starts_of_the_server_have_different_ids() -> None:
    def start() -> JobInfo:
        imports = ImportJobs(lambda _job: None)
        job = imports.start(lambda _progress: AddedCells(0, 0, (), ()), lambda: None)
        imports.close()
        return job

    assert start().id != start().id


def test_labels_leave_and_come_back(client: ProjectClient) -> None:
    client.label("exporter", {40: 0, 41: 1})
    status, headers, text = client.server.request("GET", "/project/labels.csv")
    assert status == 200
    assert headers["content-disposition"].startswith("attachment")
    rows = {int(row["cell"]): row for row in csv.DictReader(io.StringIO(text.decode()))}
    assert (rows[40]["class"], rows[40]["annotator"]) == ("tubule", "exporter")
    status, _, archive = client.server.request("GET", "/project/labels.npz")
    assert status == 200
    assert len(np.load(io.BytesIO(archive))["train_images"]) == len(rows)
    status, report = client.upload("/project/labels/import?annotator=importer", [("labels.csv", text)])
    assert status == 200, report
    assert report["n_labels"] == len(rows)
    assert client.get("/project/cells?cells=40")[0]["labels_by"]["importer"] == 0
    status, error = client.upload("/project/labels/import?annotator=importer", [("labels.csv", b"not,a\nlabel,file\n")])
    assert "uploads" not in error["error"]
    assert (status, list(error)) == (400, ["error"])


def test_a_heat_map_is_a_png_once_there_is_a_classifier(client: ProjectClient) -> None:
    client.label("mapper", {50: 0, 51: 1, 52: 0, 53: 1})
    client.wait_for_model()
    assert client.get("/project/cells?cells=50")[0]["class"] in (0, 1)
    status, headers, body = client.server.request("GET", "/project/cells/50/heatmap")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(body)).mode == "RGB"


def test_responses_match_their_schema(client: ProjectClient) -> None:
    document = client.get("/openapi.json")
    paths = {
        "/project": "/project",
        "/project/cells?cells=0,1": "/project/cells",
        "/project/cells/0": "/project/cells/{cell}",
        "/project/agreement": "/project/agreement",
    }
    for path, route in paths.items():
        schema = response_schema(document, route, 200)
        assert schema_errors(client.get(path), schema, document) == [], path
    states = document["components"]["schemas"]["ClassifierState"]["properties"]["state"]
    assert states["enum"] == ["features", "few labels", "fitting", "ready"]


def test_metrics_count_changes_and_name_routes_not_cells(client: ProjectClient) -> None:
    client.label("counter", {55: 0})
    client.get("/project/cells/55")
    text = client.server.request("GET", "/metrics")[2].decode()
    changes = re.search(r"^nephros_project_changes_total (\S+)", text, re.MULTILINE)
    assert changes is not None
    assert float(changes[1]) >= 1
    assert 'path="/project/cells/{cell}"' in text
    assert "/project/cells/55" not in text


def test_without_a_project_there_are_no_such_routes(server: LiveServer) -> None:
    paths = server.json("GET", "/openapi.json")[1]["paths"]
    assert not [path for path in paths if "project" in path]
    for path in ("/project", "/project/events", "/project/labels.csv", "/annotate"):
        assert server.request("GET", path)[0] == 404
    body = json.dumps({"annotator": "a", "changes": [{"cell": 0, "class": 0}]}).encode()
    assert server.request("POST", "/project/labels", body, {"Content-Type": "application/json"})[0] == 404
