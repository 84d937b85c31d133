"""Server of the local page: the same results as the commands, limits on uploads, nothing else served."""

import asyncio
import base64
import errno
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from helpers.class_folders import write_folder
from helpers.fake_runs import fake_compare, fake_finetune, fake_pretrain
from helpers.tiny_runs import NETWORK, TRAINING, files_in, maeseg
from maeseg.data.image_reading import pixels_of
from maeseg.data.sources.synthetic import Synthetic
from maeseg.masking.visible import random_visible
from maeseg.prediction.examples import load_normalized
from maeseg.prediction.reconstruction_pictures import reconstruct_images
from maeseg.reporting.html import write_report
from maeseg.runs.checkpoint import read_checkpoint, restore_masked_autoencoder

pytest.importorskip("uvicorn", reason="the page needs maeseg[app]")
testclient = pytest.importorskip("starlette.testclient", reason="the page needs maeseg[app]")

from maeseg.webapp import answers  # noqa: E402
from maeseg.webapp.runs import find_runs  # noqa: E402
from maeseg.webapp.site import make_site  # noqa: E402
from maeseg.webapp.upload import MAX_UPLOAD  # noqa: E402

OWN = "http://127.0.0.1:8000"


def client_of(root: Path) -> Any:
    return testclient.TestClient(make_site(root), base_url=OWN)


@pytest.fixture
def client(pretrained: Path, finetuned: Path) -> Any:
    """A page of the runs ``pretrained`` and ``finetuned``."""
    return client_of(pretrained.parent)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs without networks, and much else."""
    root = tmp_path / "runs"
    fake_compare(root / "comparison", inits=("scratch", "pretrained"), labels=(32,), seeds=1)
    fake_pretrain(root / "deep" / "er" / "pre")
    fake_finetune(root / ".hidden")
    (root / "notes").mkdir()
    (root / "notes" / "thesis.txt").write_text("precious")
    return root


def file_of(picture: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return stream.getvalue()


def values_of(text: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


# --- what the page says is what the verbs say


def photograph() -> bytes:
    return file_of(Synthetic(1).image(0).resize((90, 70)))


def turned() -> bytes:
    """A photograph of a telephone that was held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return file_of(Synthetic(1).image(0).resize((90, 70)), "JPEG", exif=exif)


def gray() -> bytes:
    return file_of(Synthetic(1).image(0).convert("L"), "TIFF")


def mosaic() -> bytes:
    """An image large enough to be predicted in tiles."""
    picture = Image.new("RGB", (1100, 150))
    for number in range(8):
        picture.paste(Synthetic(8).image(number).resize((150, 150)), (150 * number, 0))
    return file_of(picture)


@pytest.mark.parametrize("make", [photograph, turned, gray, mosaic])
def test_the_label_is_the_one_that_predict_writes(
    client: Any, finetuned: Path, tmp_path: Path, make: Callable[[], bytes]
) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(make())
    assert maeseg("predict", "--run", finetuned, "--images", image, "--out", tmp_path / "out") == 0
    answer = client.post("/segment", params={"run": "finetuned", "name": "image.png"}, content=make())
    assert answer.status_code == 200
    found = answer.json()
    assert base64.b64decode(found["label"]) == (tmp_path / "out" / "labels" / "image.png").read_bytes()
    label = values_of(found["label"])
    [foreground] = found["classes"]
    assert 0 < foreground["share"] < 1 and foreground["share"] == pytest.approx(label.mean() / 255)
    tint = Image.open(io.BytesIO(base64.b64decode(found["tint"]))).convert("RGBA")
    assert np.array_equal(np.asarray(tint)[..., 3], label)
    assert {tuple(color) for color in np.asarray(tint)[label == 255]} == {(*foreground["color"], 255)}
    assert label.shape == (found["height"], found["width"]) == values_of(found["picture"]).shape[:2]
    assert np.array_equal(label, values_of(found["shown_label"]))


def test_a_large_image_is_shown_smaller_and_its_label_is_not(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SHOWN_SIDE", 45)
    found = client.post("/segment", params={"run": "finetuned"}, content=photograph()).json()
    assert values_of(found["label"]).shape == (70, 90)
    assert values_of(found["shown_label"]).shape == values_of(found["picture"]).shape[:2] == (35, 45)


def test_a_reconstruction_is_the_one_that_the_verb_draws(client: Any, pretrained: Path) -> None:
    saved = read_checkpoint(pretrained)
    network = restore_masked_autoencoder(saved).eval()
    image = load_normalized(pixels_of(Image.open(io.BytesIO(photograph()))), (64, 64)).unsqueeze(0)
    visible = random_visible(1, (2, 2), 0.5, torch.Generator().manual_seed(3))
    expected = reconstruct_images(network, image, visible, normalized_target=True)
    asked = {"run": "pretrained", "mask_ratio": "0.5", "seed": "3"}
    found = client.post("/reconstruct", params=asked, content=photograph()).json()
    for kind in ("image", "visible", "reconstruction"):
        picture = getattr(expected, kind)[0].permute(1, 2, 0).numpy() * 255
        assert np.abs(values_of(found[kind]) - picture).max() <= 1.01, kind
    assert (found["patches"], found["hidden"], found["mask_ratio"]) == (4, 2, 0.5)
    assert "its own true mean" in found["note"]


def test_the_share_and_the_seed_change_what_is_hidden(client: Any) -> None:
    def visible(**asked: Any) -> tuple[int, bytes]:
        found = client.post("/reconstruct", params={"run": "pretrained", **asked}, content=photograph()).json()
        return found["hidden"], values_of(found["visible"]).tobytes()

    assert visible() == visible(mask_ratio=0.6, seed=0)  # as in training
    assert len({visible(seed=seed)[1] for seed in range(8)}) > 1
    assert [visible(mask_ratio=ratio)[0] for ratio in (0.01, 0.5, 0.99)] == [1, 2, 3]


@pytest.mark.slow
def test_the_report_is_the_one_that_is_written_and_nothing_is_written(runs: Path) -> None:
    before = files_in(runs)
    answer = client_of(runs).get("/report", params={"run": "comparison"})
    assert files_in(runs) == before
    random = re.compile(r"\b[a-z]{1,2}[0-9a-f]{10}\b")  # matplotlib's names for the parts of a drawing
    written = write_report(runs / "comparison").read_text(encoding="utf-8")
    assert random.sub("", answer.text) == random.sub("", written)
    policy = answer.headers["content-security-policy"]
    assert "sandbox;" in policy and "script-src" not in policy and "default-src 'none'" in policy


# --- which runs


def test_runs_are_found_at_any_depth_and_offered_for_what_they_can_do(
    runs: Path, pretrained: Path, finetuned: Path, tmp_path: Path
) -> None:
    (runs / "elsewhere").symlink_to(pretrained.parent)
    found = client_of(runs).get("/runs").json()
    inner = ["comparison/runs/pretrained-32-seed0", "comparison/runs/scratch-32-seed0"]
    assert found["root"] == "runs" and found["largest_upload"] == MAX_UPLOAD
    assert [each["name"] for each in found["report"]] == ["comparison", *inner, "deep/er/pre"]
    assert found["segment"] == found["reconstruct"] == []  # they have no checkpoints
    for run in (pretrained, finetuned):  # beside them there may be the runs of other tests
        shutil.copytree(run, tmp_path / "trained" / run.name)
    found = client_of(tmp_path / "trained").get("/runs").json()
    assert [each["name"] for each in found["segment"]] == ["finetuned"]
    assert [each["name"] for each in found["reconstruct"]] == ["pretrained"]
    assert found["segment"][0]["iou"] == json.loads((finetuned / "metrics.json").read_text())["iou"]


def test_one_run_is_enough(finetuned: Path) -> None:
    [run] = find_runs(finetuned)
    assert (run.name, run.path, run.can) == ("finetuned", finetuned, "segment")
    client = client_of(finetuned)
    assert client.post("/segment", params={"run": "finetuned"}, content=photograph()).status_code == 200
    number = client.get("/runs").json()["segment"][0]["examples"][0]
    example = client.get("/example", params={"run": "finetuned", "number": number})
    assert example.content == (finetuned / "examples" / f"{number}_image.png").read_bytes()


def test_better_networks_come_first(runs: Path) -> None:
    for name, iou in (("a", 0.25), ("b", 0.75)):
        fake_finetune(runs / name, iou=iou)
    assert [run.name for run in find_runs(runs)][:3] == ["b", "a", "comparison"]


def test_a_damaged_run_is_left_out(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    (runs / "deep" / "er" / "pre" / "run.json").write_text("{")
    assert all(run.verb != "pretrain" for run in find_runs(runs))
    assert find_runs(runs) and caplog.text.count("deep/er/pre is left out: ") == 1


# --- nothing else is served


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../runs", "notes", "/etc", "comparison/", "comparison/../comparison", ".hidden", "\0"]
)
def test_a_name_that_no_run_has_is_not_found(runs: Path, name: str) -> None:
    client = client_of(runs)
    for answer in (
        client.get("/report", params={"run": name}),
        client.get("/example", params={"run": name, "number": "00"}),
        client.post("/segment", params={"run": name}, content=photograph()),
        client.post("/reconstruct", params={"run": name}, content=photograph()),
    ):
        assert answer.status_code == 404
        assert "there is no run" in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/notes/thesis.txt", "/page/../site.py", "/page/%2e%2e/site.py", "/page/..%2fsite.py", "//etc/passwd", "/page/",
        "/comparison/run.json", "/page/index.html", "/../runs.py", "/page/%00",
    ],
)  # fmt: skip
def test_no_file_is_served_by_its_path(runs: Path, path: str) -> None:
    assert client_of(runs).get(path).status_code == 404


@pytest.mark.parametrize("number", ["../config", "00_image.png", "../../notes/thesis", "99", ""])
def test_an_example_has_a_number(finetuned: Path, number: str) -> None:
    answer = client_of(finetuned).get("/example", params={"run": "finetuned", "number": number})
    assert answer.status_code == 404 and "no such example" in answer.json()["error"]


def test_links_out_of_a_run_are_not_followed(tmp_path: Path, finetuned: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    run = fake_finetune(tmp_path / "runs" / "run")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.ckpt").symlink_to(finetuned / "checkpoints" / "best.ckpt")
    (run / "examples" / "00_image.png").unlink()
    (run / "examples" / "00_image.png").symlink_to(secret)
    fake_finetune(tmp_path / "runs" / "intact")
    stranger = fake_finetune(tmp_path / "runs" / "stranger")
    os.replace(stranger / "run.json", tmp_path / "run.json")
    (stranger / "run.json").symlink_to(tmp_path / "run.json")
    client = client_of(tmp_path / "runs")
    listed = client.get("/runs").json()
    assert [each["name"] for each in listed["report"]] == ["intact"] and listed["segment"] == []
    (run / "checkpoints" / "best.ckpt").unlink()
    assert [each["name"] for each in client.get("/runs").json()["report"]] == ["intact", "run"]
    assert client.get("/example", params={"run": "run", "number": "00"}).status_code == 404
    report = client.get("/report", params={"run": "run"})
    assert report.status_code == 400 and "outside of the run folder" in report.json()["error"]


# --- who may ask


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1:8000", ""])
def test_another_name_for_this_machine_is_refused(client: Any, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:9000", "localhost"])
def test_this_machines_names_are_not(client: Any, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},  # the report's, which is in a sandbox
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_another_site_is_refused(client: Any, headers: dict[str, str]) -> None:
    answer = client.post("/segment", params={"run": "finetuned"}, content=photograph(), headers=headers)
    assert answer.status_code == 403 and "another site" in answer.json()["error"]
    assert client.get("/runs", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": OWN, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},  # a link
    ],
)
def test_the_page_itself_is_not(client: Any, headers: dict[str, str]) -> None:
    assert client.get("/runs", headers=headers).status_code == 200


def test_every_answer_is_guarded(client: Any) -> None:
    refused = {"Origin": "http://evil.example"}
    for answer in (
        client.get("/"), client.get("/page/main.js"), client.get("/nowhere"), client.get("/", headers=refused),
        client.get("/", headers={"Host": "evil.example"}), client.post("/segment", params={"run": "finetuned"}),
    ):  # fmt: skip
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_is_complete_and_needs_no_other_site(client: Any) -> None:
    page = client.get("/").text
    assert page.count('aria-labelledby="') == page.count('role="tabpanel"') == 3
    texts = {name: client.get(f"/page/{name}") for name in PAGE_FILES}
    assert all(each.status_code == 200 for each in texts.values())
    assert texts["main.js"].headers["content-type"].startswith("text/javascript")
    for text in (page, *(each.text for each in texts.values())):
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
        assert "<style" not in text and "innerHTML" not in text


PAGE = Path(answers.__file__).parent / "page"
PAGE_FILES = sorted(file.name for file in PAGE.iterdir() if file.name != "index.html")


# --- what is taken


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"#!/bin/sh\nrm -rf /\n", "cat.jpg cannot be read as an image (not an image)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "cat.jpg cannot be read as an im"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "cat.jpg cannot be read as an image"),
        (b"", "cat.jpg is empty (0 bytes)"),
        (photograph()[:900], "cat.jpg cannot be read as an image"),
        (file_of(Image.new("1", (13000, 13000))), "13000 x 13000 pixels, and the maximum is 150 million"),
    ],
)
def test_what_is_no_image_gets_one_line(client: Any, content: bytes, expected: str) -> None:
    answer = client.post("/segment", params={"run": "finetuned", "name": "cat.jpg"}, content=content)
    assert answer.status_code == 400
    line = answer.json()["error"]
    assert expected in line and "\n" not in line
    assert client.post("/reconstruct", params={"run": "pretrained"}, content=content).status_code == 400


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"mask_ratio": "1.5"}, "mask_ratio 1.5 is not between 0 and 1"),
        ({"mask_ratio": "nan"}, "mask_ratio nan is not between 0 and 1"),
        ({"mask_ratio": "half"}, "mask_ratio half is not a number"),
        ({"seed": "one"}, "seed one is not a number"),
        ({"seed": "-1"}, "seed -1 is out of range"),
        ({"seed": str(2**63)}, "is out of range"),
    ],
)
def test_bad_numbers_get_one_line(client: Any, asked: dict[str, str], expected: str) -> None:
    answer = client.post("/reconstruct", params={"run": "pretrained", **asked}, content=photograph())
    assert answer.status_code == 400 and expected in answer.json()["error"]


def test_a_run_is_asked_for_what_it_cannot_do(client: Any) -> None:
    answer = client.post("/segment", params={"run": "pretrained"}, content=photograph())
    assert answer.status_code == 404 and "pretrained has no network that can segment" in answer.json()["error"]
    assert client.get("/segment").status_code == 405


@pytest.mark.parametrize("announced", [True, False])
def test_500_megabytes_are_not_read(finetuned: Path, announced: bool) -> None:
    part, read, sent = bytes(2**20), [0], []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/segment", "raw_path": b"/segment", "query_string": b"run=finetuned&name=big.tif", "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), *([(b"content-length", b"524288000")] if announced else [])],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        read[0] += 1
        return {"type": "http.request", "body": part, "more_body": read[0] < 500}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(make_site(finetuned)(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 413
    line = json.loads(sent[1]["body"])["error"]
    assert "big.tif is too large" in line and "32 MB" in line and ("500 MB" in line) is announced
    assert read[0] == (0 if announced else MAX_UPLOAD // len(part) + 1)


def test_one_image_at_a_time_and_the_rest_is_answered_meanwhile(
    finetuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, now, most = threading.Event(), threading.Event(), [0], [0]

    def slow(*_: object) -> dict[str, Any]:
        now[0] += 1
        most[0] = max(most[0], now[0])
        begun.set()
        go_on.wait(60)
        now[0] -= 1
        return {}

    monkeypatch.setattr(answers, "segment", slow)
    with client_of(finetuned) as client:
        askers = [
            threading.Thread(target=client.post, args=("/segment?run=finetuned",), kwargs={"content": b"x"})
            for _ in range(3)
        ]
        for each in askers:
            each.start()
        assert begun.wait(60)
        assert client.get("/runs").status_code == 200
        go_on.set()
        for each in askers:
            each.join()
    assert most[0] == 1


# --- the command line


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_busy_port(refused: Callable[..., str], finetuned: Path, busy_port: int) -> None:
    expected = refused("app", "--runs", finetuned, "--port", busy_port)
    assert f"--port {busy_port} is in use" in expected and "or 0 for any free port" in expected


def test_a_port_that_is_not_permitted(
    refused: Callable[..., str], finetuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(address: tuple[str, int]) -> socket.socket:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket, "create_server", deny)  # whether the system permits a port depends on the machine
    assert "--port 80 is not permitted: give one above 1023" in refused("app", "--runs", finetuned, "--port", 80)


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_such_port(refused: Callable[..., str], finetuned: Path, port: int) -> None:
    assert f"--port {port} is out of range: give a number" in refused("app", "--runs", finetuned, "--port", port)


def test_no_run(refused: Callable[..., str], tmp_path: Path, runs: Path) -> None:
    assert "nowhere is not a folder" in refused("app", "--runs", "nowhere")
    assert "notes holds no run: give the folder of a pretrain" in refused("app", "--runs", runs / "notes")


def test_without_the_extra(refused: Callable[..., str], finetuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    assert "needs uvicorn: pip install 'maeseg[app]'" in refused("app", "--runs", finetuned)


# --- several classes


@pytest.mark.slow
def test_several_classes_are_tinted_and_counted(tmp_path: Path) -> None:
    folder, run = write_folder(tmp_path / "data"), tmp_path / "run"
    words = ("finetune", "--data", folder, "--classes", folder / "classes.yaml", "--out", run, *NETWORK, *TRAINING)
    assert maeseg(*words, "--data", folder, "--batch_size", 4, "--epochs", 1) == 0
    image = folder / "images" / "00.png"
    assert maeseg("predict", "--run", run, "--images", image, "--out", tmp_path / "out") == 0
    found = client_of(run).post("/segment", params={"run": "run"}, content=image.read_bytes()).json()
    assert base64.b64decode(found["label"]) == (tmp_path / "out" / "labels" / "00.png").read_bytes()
    saved = read_checkpoint(run)
    place = {value: number for number, value in enumerate(saved.spec.classes.values)}
    classes = np.vectorize(place.get)(values_of(found["label"]))
    assert [each["name"] for each in found["classes"]] == list(saved.spec.classes.names[1:])
    for number, each in enumerate(found["classes"], 1):
        assert each["share"] == pytest.approx((classes == number).mean())
        assert tuple(each["color"]) == saved.spec.classes.colors[number]
    tint = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["tint"]))).convert("RGBA"))
    assert np.array_equal(tint[..., 3] == 255, classes > 0)
    assert np.array_equal(tint[classes > 0][:, :3], np.array(saved.spec.classes.colors)[classes[classes > 0]])
    assert len(np.unique(classes)) > 1
