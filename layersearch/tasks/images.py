"""The task `images`: which class a picture belongs to, from folders of pictures.

Knows: how the folders name classes, how a picture is opened, and how the model's processor sees it. Does not know:
models. Pictures are opened once, and kept in the size that the model takes as bytes of colour, which a batch turns into
numbers as the processor would: 150 kB for one of 224 x 224, on the disk (in TMPDIR) where all take more than 256 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layersearch.errors import DataError, WordsError
from layersearch.names import nearest
from layersearch.tasks.tables import hash_of
from layersearch.tasks.task import DRAW_SEED, VALIDATION_SHARE, Encoded, Examples
from layersearch.tasks.text import Corpus, Flat, TextTask, held_out

NAME = "images"
TRAIN, VALIDATION = "train", "validation"
SUFFIXES = (".jpeg", ".jpg", ".png")
AT_ONCE = 32  # pictures that are opened together

Bytes = NDArray[np.uint8]


def images_task(data: Path | None = None) -> ImageTask:
    """The task over the folder `data`; reads names of classes only. Raises DataError."""
    if data is None or not data.is_dir():
        given = "" if data is None else f"; {data} is no folder"
        wrong = WordsError if data is None else DataError
        raise wrong(f"task {NAME} needs --data FOLDER with a folder of pictures for each class{given}")
    classes = tuple(folder.name for folder in _folders(_train(data)))
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no folder of a class"
        raise DataError(f"{_train(data)} has {found}; give a folder of pictures for each of two classes or more")
    return ImageTask(NAME, "image-classification", classes, ("accuracy", "f1-macro"), partial(_corpus, data, classes))


class ImageTask(TextTask):
    """A `Task` over pictures, whose examples are names of files: as one over texts, but for what the model sees."""

    def encode(self, examples: Examples, reader: Any, max_length: int) -> Encoded:  # noqa: ARG002 - of texts
        """Pictures as `reader`, the image processor, resizes and cuts them. Raises DataError, naming the file."""
        pixels, shape = Flat(np.uint8), None
        for start in range(0, len(examples), AT_ONCE):
            files = examples.text[start : start + AT_ONCE]
            for file, picture in zip(files, _seen(reader, files), strict=True):
                shape = shape or picture.shape
                if picture.shape != shape:
                    sizes = " and ".join("x".join(map(str, one[1:])) for one in (shape, picture.shape))
                    raise DataError(
                        f"{file}: the model's image processor makes pictures of different sizes, {sizes}; choose a "
                        "model whose processor makes them alike, or resize the files"
                    )
                pixels.write(picture)
        n = len(examples)
        return Encoded(
            input_ids=np.zeros(n, dtype=np.int32),
            token_type_ids=None,
            offsets=np.arange(n + 1),
            labels=examples.labels,
            pixels=pixels.array().reshape(n, *(shape or ())),
            colours=_colours(reader),
        )


def _seen(reader: Any, files: Sequence[str]) -> Sequence[Bytes]:
    """Pictures as the model's processor would give them, but bytes still: [channels, height, width] each."""
    found = reader(images=[_picture(file) for file in files], do_rescale=False, do_normalize=False)["pixel_values"]
    pictures = [np.asarray(picture) for picture in found]
    if any(picture.dtype != np.uint8 for picture in pictures):
        raise DataError(
            f"{type(reader).__name__} gives {pictures[0].dtype} where colours are bytes; choose another model"
        )
    return pictures


def _colours(reader: Any) -> NDArray[np.float32]:
    """What the processor multiplies a byte of each channel by and adds then, float32 [2, channels].

    It is asked for a black and a white picture; all that it does to colours is a line through these.
    """
    ends = [np.full((32, 32, 3), byte, dtype=np.uint8) for byte in (0, 255)]
    black, white = (np.asarray(picture) for picture in reader(images=ends)["pixel_values"])
    low, high = (end[:, end.shape[1] // 2, end.shape[2] // 2].astype(np.float64) for end in (black, white))
    return np.stack([(high - low) / 255, low]).astype(np.float32)


def _picture(file: str) -> Any:
    """A picture in RGB, turned as its camera says. Raises DataError for a file that is none."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        what = "no picture that can be read" if isinstance(problem, UnidentifiedImageError) else problem
        raise DataError(f"{file} is broken: {what}; mend or remove it") from None


def _train(data: Path) -> Path:
    return data / TRAIN if (data / TRAIN).is_dir() else data


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _corpus(data: Path, classes: Sequence[str]) -> Corpus:
    """All pictures by name; a part is held out where there is no folder of validation. Raises DataError."""
    train, left_out = _pictures(_train(data), classes)
    warnings = [f"{data} has files without an ending of a picture, such as {left_out[0]}: left out"] if left_out else []
    marks = _mark(train)
    if _train(data) != data and (data / VALIDATION).is_dir():
        validation, _ = _pictures(data / VALIDATION, classes)
        marks += _mark(validation)
    else:
        unseen = held_out(train.labels, VALIDATION_SHARE, DRAW_SEED)
        validation, train = train.take(unseen), train.take(np.setdiff1d(np.arange(len(train)), unseen))
        warnings.append(f"{data} has no validation set: {VALIDATION_SHARE:.0%} of its pictures are held out for it")
    return Corpus(train, validation, tuple(warnings), mark=marks)


def _mark(examples: Examples) -> str:
    """A hash of the bytes of all files, in their order."""
    try:
        marks = [hash_of(Path(file), text=False) for file in examples.text]
    except OSError as problem:
        raise DataError(f"{problem.filename} cannot be read: {problem.strerror}") from None
    return hashlib.sha256("".join(marks).encode()).hexdigest()


def _pictures(folder: Path, classes: Sequence[str]) -> tuple[Examples, list[str]]:
    """The pictures below `folder` and their classes; the files that are none."""
    names: list[str] = []
    labels: list[int] = []
    left_out: list[str] = []
    for child in _folders(folder):
        files = sorted(file for file in child.iterdir() if file.is_file() and not file.name.startswith("."))
        pictures = [str(file) for file in files if file.suffix.lower() in SUFFIXES]
        if not pictures:
            raise DataError(f"{child} holds no picture ({', '.join(SUFFIXES)}); add some or remove the folder")
        if child.name not in classes:
            known = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
            raise DataError(
                f"{pictures[0]}: the class {child.name!r}{nearest(child.name, classes)} is never seen in training, "
                f"which has {known}; correct it or add training pictures"
            )
        left_out += [str(file) for file in files if file.suffix.lower() not in SUFFIXES]
        names += pictures
        labels += [classes.index(child.name)] * len(pictures)
    if not names:
        raise DataError(f"{folder} has no folder of a class; give a folder of pictures for each")
    return Examples(tuple(names), None, np.array(labels, dtype=np.int64)), left_out
