"""Pictures in folders: classes, what the model sees, what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

from layersearch.errors import DataError, WordsError
from layersearch.tasks import load_task
from layersearch.tasks.task import Task
from layersearch.training.batches import collate
from tests.tasks.support import scored

COLOURS = {"blue": (20, 40, 200), "green": (30, 180, 60), "red": (210, 30, 40)}


def painted(folder: Path, numbers: Mapping[str, int], seed: int = 0) -> Path:
    """Noisy pictures of one colour and of many sizes, so many in a folder of each colour."""
    rng = np.random.default_rng(seed)
    for name, number in numbers.items():
        (folder / name).mkdir(parents=True)
        for i in range(number):
            noise = rng.normal(COLOURS[name], 25, (*rng.integers(9, 30, 2), 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / name / f"{i:03}.{('png', 'jpg', 'JPEG')[i % 3]}")
    return folder


def reader(**settings: Any) -> Any:
    return ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=[0.4, 0.5, 0.6], **settings)


def test_folders_are_classes_and_a_part_of_each_is_held_out(tmp_path: Path) -> None:
    task = load_task("images", painted(tmp_path, {"red": 40, "blue": 40, "green": 20}))
    assert (task.labels, task.num_labels, task.metric) == (("blue", "green", "red"), 3, "accuracy")
    splits = task.splits(0.2, 0)
    parts = splits.train, splits.search, splits.validation
    assert [len(part) for part in parts] == [68, 17, 15]
    assert len({name for part in parts for name in part.text}) == 100
    for part in parts:
        assert [Path(name).parent.name for name in part.text] == [task.labels[label] for label in part.labels]
        assert len({*part.labels}) == 3
    assert splits.warnings == (f"{tmp_path} has no validation set: 15% of its pictures are held out for it",)


def test_a_folder_may_bring_its_validation_pictures(tmp_path: Path) -> None:
    painted(tmp_path / "train", {"red": 10, "blue": 10})
    painted(tmp_path / "validation", {"red": 3}, seed=1)
    splits = load_task("images", tmp_path).splits(0.2, 0)
    assert [len(part) for part in (splits.train, splits.search, splits.validation)] == [16, 4, 3]
    assert splits.validation.labels.tolist() == [1, 1, 1]
    assert splits.warnings == ()


def test_the_fingerprint_is_of_bytes_and_classes_not_of_places(tmp_path: Path) -> None:
    first, again, other = (painted(tmp_path / name, {"red": 9, "blue": 9}) for name in ("a", "b", "c"))
    Image.new("RGB", (9, 9)).save(other / "red" / "000.png")
    marks = [load_task("images", folder).splits(0.2, 0).fingerprint for folder in (first, again, other)]
    assert marks[0] == marks[1] != marks[2]


@pytest.mark.parametrize("settings", [{}, {"do_normalize": False}, {"rescale_factor": 1 / 127.5}])
def test_a_batch_is_what_the_processor_gives(settings: dict[str, Any], tmp_path: Path) -> None:
    task = load_task("images", painted(tmp_path, {"red": 40, "blue": 9}))
    examples = task.splits(0.2, 0).train
    encoded = task.encode(examples, reader(**settings), 128)
    assert encoded.pixels is not None
    assert encoded.pixels.dtype == np.uint8
    assert encoded.pixels.shape == (len(examples), 3, 8, 8)
    some = np.array([3, 0, 33])
    batch = collate(encoded, some, torch.device("cpu"), 0)["pixel_values"]
    pictures = [Image.open(examples.text[i]).convert("RGB") for i in some]
    expected = reader(**settings)(images=pictures, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(batch, expected, atol=1e-5, rtol=0)


def test_other_colours_are_made_rgb_and_turned_as_the_camera_says(tmp_path: Path) -> None:
    painted(tmp_path, {"red": 9, "blue": 9})
    Image.new("LA", (9, 9), (255, 7)).save(tmp_path / "red" / "grey.png")
    turned = Image.new("RGB", (8, 8))
    turned.paste((255, 255, 255), (0, 0, 8, 4))
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "red" / "turned.png", exif=exif)
    task = load_task("images", tmp_path)
    examples = task.splits(0.2, 0)
    places = {
        Path(name).name: (part, i)
        for part in (examples.train, examples.search, examples.validation)
        for i, name in enumerate(part.text)
    }
    seen = {}
    for name in ("grey.png", "turned.png"):
        part, place = places[name]
        pixels = task.encode(part.take(np.array([place])), reader(), 128).pixels
        assert pixels is not None
        seen[name] = pixels[0].astype(int)
    assert (seen["grey.png"] == 255).all()
    assert seen["turned.png"][:, 0].max() < 60 < 200 < seen["turned.png"][:, -1].min()


def test_many_pictures_are_memory_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("images", painted(tmp_path, {"red": 40, "blue": 9}))
    examples = task.splits(0.2, 0).train
    whole = task.encode(examples, reader(), 128).pixels
    monkeypatch.setattr("layersearch.tasks.text.IN_MEMORY", 1000)
    mapped = task.encode(examples, reader(), 128)
    assert isinstance(mapped.pixels, np.memmap)
    assert np.array_equal(mapped.pixels, whole if whole is not None else [])
    collate(mapped, np.array([1, 0]), torch.device("cpu"), 0)


def test_scores_are_those_of_classes(tmp_path: Path) -> None:
    task: Task = load_task("images", painted(tmp_path, {"red": 2, "blue": 2}))
    logits = np.array([[2, 1], [2, 1], [1, 2], [1, 2]], dtype=np.float32)
    assert task.score(logits, scored(np.array([0, 0, 1, 0]))) == {
        "accuracy": 0.75,
        "f1-macro": pytest.approx((0.8 + 2 / 3) / 2),
    }
    assert pickle.loads(pickle.dumps(task)).labels == ("blue", "red")


def _truncated(folder: Path) -> None:
    raw = (folder / "red" / "001.jpg").read_bytes()
    (folder / "red" / "001.jpg").write_bytes(raw[: len(raw) // 2])


def _no_picture(folder: Path) -> None:
    (folder / "red" / "001.jpg").write_text("red")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncated, r"/red/001.jpg is broken: .*[tT]runcated.*; mend or remove it"),
        (_no_picture, r"/red/001.jpg is broken: no picture that can be read; mend or remove it"),
    ],
)
def test_a_broken_picture_is_named(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    task = load_task("images", painted(tmp_path, {"red": 9, "blue": 9}))
    spoil(tmp_path)
    splits = task.splits(0.2, 0)
    parts = splits.train, splits.search, splits.validation
    spoilt = next(part for part in parts if any(name.endswith("red/001.jpg") for name in part.text))
    with pytest.raises(DataError, match=message):
        task.encode(spoilt, reader(), 128)


def test_what_is_no_picture_by_its_name_is_left_out_with_a_remark(tmp_path: Path) -> None:
    painted(tmp_path, {"red": 9, "blue": 9})
    (tmp_path / "red" / "notes.txt").write_text("red")
    (tmp_path / "red" / ".hidden").write_text("red")
    splits = load_task("images", tmp_path).splits(0.2, 0)
    assert len(splits.train) + len(splits.search) + len(splits.validation) == 18
    assert (
        splits.warnings[0]
        == f"{tmp_path} has files without an ending of a picture, such as {tmp_path}/red/notes.txt: left out"
    )


def test_folders_that_make_no_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WordsError, match="task images needs --data FOLDER with a folder of pictures for each class"):
        load_task("images")
    with pytest.raises(DataError, match=r"; .*/none is no folder"):
        load_task("images", tmp_path / "none")
    with pytest.raises(DataError, match=r"has no folder of a class; give a folder of pictures for each of two classes"):
        load_task("images", tmp_path)
    painted(tmp_path / "one", {"red": 3})
    with pytest.raises(DataError, match=r"has only the class 'red'; give a folder of pictures for each of two classes"):
        load_task("images", tmp_path / "one")
    (tmp_path / "one" / "blue").mkdir()
    with pytest.raises(DataError, match=r"/blue holds no picture \(.jpeg, .jpg, .png\); add some or remove the folder"):
        load_task("images", tmp_path / "one").splits(0.2, 0)


def test_a_class_that_is_never_seen_in_training_is_refused(tmp_path: Path) -> None:
    painted(tmp_path / "train", {"red": 9, "blue": 9})
    painted(tmp_path / "validation", {"red": 3, "green": 3})
    message = (
        r"/validation/green/000.png: the class 'green'.* is never seen in training, which has blue, red; correct it"
    )
    with pytest.raises(DataError, match=message):
        load_task("images", tmp_path).splits(0.2, 0)


def test_a_processor_that_leaves_sizes_as_they_are_is_refused(tmp_path: Path) -> None:
    task = load_task("images", painted(tmp_path, {"red": 9, "blue": 9}))
    message = (
        r"\.(png|jpg|JPEG): the model's image processor makes pictures of different sizes, \d+x\d+ and \d+x\d+; choose"
    )
    with pytest.raises(DataError, match=message):
        task.encode(task.splits(0.2, 0).train, reader(do_resize=False), 128)
