"""Odd things among the images of a tree: each is named at once, none is waited for."""

import os
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from small_sets import folder, make_tree

from noiseutils.config import Data
from noiseutils.data import load
from noiseutils.data.availability import check, overview
from noiseutils.errors import UserError


def pipe(root):
    os.mkfifo(root / "train" / "cat" / "9.png")


def linked_pipe(root):
    os.mkfifo(root / "pipe")
    os.symlink(root / "pipe", root / "train" / "cat" / "9.png")


def a_socket(root):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(root / "train" / "cat" / "9.png"))  # whose length is bounded


def device(root):
    os.symlink("/dev/zero", root / "train" / "cat" / "9.png")


def link_to_itself(root):
    os.symlink("9.png", root / "train" / "cat" / "9.png")


def class_that_is_a_link_to_itself(root):
    os.symlink("zoo", root / "train" / "zoo")


def class_that_is_its_own_parent(root):
    os.symlink(root / "train", root / "train" / "zoo")


def pipe_for_a_split(root):
    os.rename(root / "test", root / "tests")
    os.mkfifo(root / "test")


def strip(root):
    Image.fromarray(np.zeros((1, 20_000, 3), np.uint8)).save(root / "train" / "cat" / "9.png")


def bomb(root):
    """Say in an image's header that the image has 60,000 × 60,000 pixels."""
    file = root / "train" / "cat" / "0.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    content = file.read_bytes()
    file.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


def name_that_is_no_text(root):
    for split in ("train", "test"):
        os.rename(root / split / "dog", os.fsencode(root / split) + b"/\xff")


SAID = {
    pipe: "9.png is a pipe, socket or device; expected: files",
    linked_pipe: "9.png is a pipe, socket or device; expected: files",
    a_socket: "9.png is a pipe, socket or device; expected: files",
    device: "9.png is a pipe, socket or device; expected: files",
    link_to_itself: "9.png cannot be listed: Too many levels",
    class_that_is_a_link_to_itself: "zoo cannot be listed: Too many levels",
    class_that_is_its_own_parent: "zoo is a folder within a class",
    pipe_for_a_split: "no folder .*test; expected: train/<class>",
    strip: "9.png is 20000×1 pixels; allowed: a side up to 50 times the other",
    bomb: "0.png cannot be read as an image",
    name_that_is_no_text: "whose name is not in UTF-8",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("odd", SAID, ids=lambda odd: odd.__name__)
def test_an_odd_file_is_named_at_once(tmp_path, monkeypatch, odd, streamed):
    monkeypatch.chdir(tmp_path)
    odd(make_tree(tmp_path / "tree"))
    with pytest.raises(UserError, match=SAID[odd]):
        load(folder(tmp_path / "tree", image_size=512, streamed=streamed)).train.take(9)


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_the_cache_is_not_read(tmp_path):
    root = make_tree(tmp_path / "tree")
    (root / ".noiseutils-cache").mkdir()
    os.mkfifo(root / ".noiseutils-cache" / "stored-all-all.npz")
    assert len(load(folder(root)).train) == 8


def test_a_tree_loads_where_no_cache_can_be_made(tmp_path, monkeypatch, caplog):
    root = make_tree(tmp_path / "tree")
    (root / ".noiseutils-cache").touch()
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOISEUTILS_DATA", str(tmp_path / "file" / "data"))
    assert len(load(folder(root)).train) == 8
    assert "the decoded images are not cached" in caplog.text


def test_one_class_is_nothing_to_tell_apart(tmp_path):
    root = make_tree(tmp_path / "tree", classes=("cat",))
    with pytest.raises(UserError, match=r"'cat' alone; expected: .*two classes or more"):
        load(folder(root))


def test_many_classes_that_one_split_lacks_are_ten_names(tmp_path):
    root = make_tree(tmp_path / "tree", classes=("cat", "dog"))
    for i in range(500):
        (root / "train" / f"class{i:03}").mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "train" / f"class{i:03}" / "0.png")
    with pytest.raises(UserError, match=r"class009, … is in .*train but not in") as error:
        check(folder(root))
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("name", ["cifar10", "mnist", "imagenet", "folder"])
def test_a_folder_longer_than_the_file_system_takes_is_missing(name):
    with pytest.raises(UserError, match=r"is not complete in|no folder"):
        check(Data(name=name, root="/".join(["x" * 300, "y"])))


def test_the_list_of_sets_is_made_whatever_the_data_folder_is_called(monkeypatch):
    monkeypatch.setenv("NOISEUTILS_DATA", "x" * 300)
    assert "cifar10" in overview()


@pytest.mark.parametrize(
    "name",
    ["a\nb", "\u202eabc", "x" * 255, "😀", "50%", "{}", "{0.__class__}", "a\\b", "_x_", "*a*", "$a$ $b$"],
)
def test_a_class_may_be_called_anything(tmp_path, name):
    data = load(folder(make_tree(tmp_path / "tree", classes=("cat", name))))
    assert name in data.classes
    assert name[:5] in check(folder(tmp_path / "tree"))
