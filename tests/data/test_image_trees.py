"""Folders of images: decoded once, in the order of their names, and nothing left out in silence."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from small_sets import folder, make_tree, pixel_rows

from noiseutils.config import Data
from noiseutils.data import image_trees, load
from noiseutils.data.availability import check, fetch
from noiseutils.errors import UserError


def test_tree_is_read_with_labels_by_class_folder_name(tmp_path):
    root = make_tree(tmp_path / "pets", classes=("dog", "ant", "cat"))
    data = load(folder(root))
    assert (data.classes, data.label, data.image_size) == (("ant", "cat", "dog"), "pets", 8)
    assert (len(data.train), len(data.test)) == (12, 6)
    for split, images in (("train", data.train), ("test", data.test)):
        stored = {
            np.asarray(Image.open(path)).tobytes(): path.parent.name for path in (root / split).glob("*/*")
        }
        found = images.pixels.permute(0, 2, 3, 1).contiguous()
        names = [stored.pop(image.numpy().tobytes()) for image in found]
        assert names == [data.classes[label] for label in images.labels]
        assert not stored


def test_first_images_of_a_tree_are_of_mixed_classes(tmp_path):
    data = load(folder(make_tree(tmp_path, train=30)))
    assert set(data.train.labels[:20].tolist()) == {0, 1}


def test_second_load_of_a_tree_decodes_nothing(tmp_path, monkeypatch):
    data = load(folder(make_tree(tmp_path)))
    monkeypatch.setattr(image_trees, "_decode", None)
    assert load(folder(tmp_path)).fingerprint == data.fingerprint


def counted_decodes(monkeypatch):
    calls, real = [], image_trees._decode
    monkeypatch.setattr(image_trees, "_decode", lambda *given: calls.append(1) or real(*given))
    return calls


@pytest.mark.parametrize("change", ["added", "removed", "rewritten", "touched"])
def test_cached_tree_is_decoded_again_when_its_files_change(tmp_path, monkeypatch, change):
    before = load(folder(make_tree(tmp_path)))
    calls = counted_decodes(monkeypatch)
    path = tmp_path / "train" / "cat" / "0.png"
    if change == "added":
        (path.parent / "new.png").write_bytes(path.read_bytes())
    elif change == "removed":
        path.unlink()
    elif change == "rewritten":
        Image.new("RGB", (8, 8), "red").save(path)
    else:
        os.utime(path, ns=(1, 1))
    after = load(folder(tmp_path))
    assert calls == [1]
    assert (after.fingerprint == before.fingerprint) == (change == "touched")


@pytest.mark.parametrize("damage", ["bit", "torn", "missing", "other"])
def test_damaged_cache_is_found_out_and_made_again(tmp_path, monkeypatch, damage):
    before = load(folder(make_tree(tmp_path)))
    cached = next((tmp_path / ".noiseutils-cache").glob("*.npz"))
    if damage == "bit":
        content = bytearray(cached.read_bytes())
        content[len(content) // 2] ^= 1
        cached.write_bytes(content)
    elif damage == "torn":
        cached.write_bytes(cached.read_bytes()[:-10])
    elif damage == "missing":
        cached.unlink()
    else:
        cached.write_text("{")
    calls = counted_decodes(monkeypatch)
    assert load(folder(tmp_path)).fingerprint == before.fingerprint
    assert load(folder(tmp_path)).fingerprint == before.fingerprint
    assert calls == [1]


def test_interrupted_cache_leaves_no_part_behind(tmp_path, monkeypatch):
    make_tree(tmp_path)

    def fail(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fail)
        with pytest.raises(KeyboardInterrupt):
            load(folder(tmp_path))
    assert not [path for path in (tmp_path / ".noiseutils-cache").rglob("*") if path.is_file()]
    assert len(load(folder(tmp_path)).train) == 8


def test_cache_goes_under_the_data_root_where_the_tree_cannot_be_written(tmp_path, monkeypatch):
    root = make_tree(tmp_path / "pets")
    (root / ".noiseutils-cache").write_text("in the way")
    data = load(folder(root))
    calls = counted_decodes(monkeypatch)
    assert load(folder(root)).fingerprint == data.fingerprint
    assert not calls
    assert list((tmp_path / "nothing here").rglob("*.npz"))


def test_size_of_a_tree_decodes_only_the_images_used(tmp_path):
    make_tree(tmp_path, train=10)
    whole = load(folder(tmp_path))
    small = load(folder(tmp_path, train_size=5))
    assert torch.equal(small.train.pixels, whole.train.pixels[:5])
    assert {len(np.load(f)["train"]) for f in (tmp_path / ".noiseutils-cache").glob("*.npz")} == {20, 5}


def test_larger_images_are_resized_by_the_shorter_side_and_cut_in_the_middle(tmp_path):
    root = make_tree(tmp_path / "wide", sizes=(40, 20))
    stripes = np.zeros((20, 40, 3), dtype=np.uint8)
    stripes[:, :10] = stripes[:, 30:] = 255  # only these outer quarters may be lost
    for path in root.glob("*/*/*.png"):
        Image.fromarray(stripes).save(path)
    data = load(folder(root, image_size=10))
    assert data.image_size == 10
    assert data.train.pixels[..., 1:-1].max() == 0
    upscaled = load(folder(root, image_size=33))
    assert upscaled.train.pixels.shape[2:] == (33, 33)


def test_images_of_different_sizes_need_an_image_size(tmp_path):
    make_tree(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "test" / "dog" / "0.png")
    with pytest.raises(UserError, match=r"dog/0\.png is 9×9 pixels and others are 8×8; set image_size"):
        load(folder(tmp_path))
    assert load(folder(tmp_path, image_size=8)).image_size == 8


def test_images_that_are_not_square_need_an_image_size(tmp_path):
    with pytest.raises(UserError, match="is 12×8 pixels; set image_size"):
        load(folder(make_tree(tmp_path, sizes=(12, 8))))


def test_all_grey_images_make_a_set_of_one_channel(tmp_path):
    root = make_tree(tmp_path, mode="L")
    data = load(folder(root))
    assert data.channels == 1
    stored = sorted(np.asarray(Image.open(path)).tobytes() for path in (root / "train").glob("*/*"))
    assert pixel_rows(data.train) == stored


def test_grey_image_among_colour_ones_is_named(tmp_path):
    make_tree(tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "train" / "dog" / "2.png")
    with pytest.raises(UserError, match=r"dog/2\.png is a grey image \(1 of 12 are\).* allowed"):
        load(folder(tmp_path))


def test_imagenet_takes_val_for_test_and_grey_images_as_colour(tmp_path):
    make_tree(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    Image.new("L", (8, 8), 77).save(tmp_path / "train" / "dog" / "2.png")
    data = load(Data(name="imagenet", root=str(tmp_path)))
    assert data.channels == 3
    assert (data.train.pixels == 77).all(dim=(1, 2, 3)).sum() == 1
    with pytest.raises(UserError, match=r"no folder .*test"):
        load(folder(tmp_path))


def test_image_with_deeper_pixels_than_a_byte_is_named(tmp_path):
    make_tree(tmp_path)
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(tmp_path / "train" / "cat" / "1.png")
    with pytest.raises(UserError, match=r"cat/1\.png has pixels of mode I;16; allowed: 1, L,"):
        load(folder(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_image_is_named_and_nothing_is_cached(tmp_path, content):
    make_tree(tmp_path)
    path = tmp_path / "train" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:80] if content is None else content)
    with pytest.raises(UserError, match=r"cat/3\.png cannot be read as an image"):
        load(folder(tmp_path))
    assert not list(tmp_path.rglob("*.npz"))


def test_only_hidden_files_and_files_without_an_image_suffix_are_passed_over(tmp_path):
    make_tree(tmp_path)
    for split in ("train", "test"):
        (tmp_path / split / ".hidden").mkdir()
        (tmp_path / split / "README.txt").write_text("x")
        for name in (".DS_Store", "Thumbs.db", ".hidden.png", "notes.txt"):
            (tmp_path / split / "cat" / name).write_text("x")
    data = load(folder(tmp_path))
    assert (len(data.train), len(data.test), data.classes) == (8, 4, ("cat", "dog"))
    (tmp_path / "train" / "cat" / "X.JPG").write_text("x")
    with pytest.raises(UserError, match=r"X\.JPG cannot be read"):
        load(folder(tmp_path))


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_passed_over_is_counted_by_suffix_and_said(tmp_path, caplog, streamed):
    make_tree(tmp_path)
    for name in ("a.jfif", "b.JFIF", "c.gif", "notes"):
        (tmp_path / "train" / "cat" / name).write_text("x")
    (tmp_path / "train" / "lost.png").write_text("x")
    load(folder(tmp_path, image_size=8, streamed=streamed))
    counts = "1 .gif, 2 .jfif, 1 .png in no class folder, 1 without a suffix"
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"{tmp_path / 'train'}: passed over: {counts}; read are .bmp, .jpeg" in said
    assert f"  {tmp_path / 'train'}: passed over: {counts}" in check(folder(tmp_path))
    assert f"{tmp_path / 'test'}: passed" not in check(folder(tmp_path))


def test_a_link_to_what_is_not_there_and_one_to_itself_are_named(tmp_path):
    make_tree(tmp_path)
    link = tmp_path / "train" / "cat" / "gone.png"
    link.symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(
        UserError, match=f"{link} is a link to {tmp_path / 'nowhere.png'}, which is not there"
    ):
        load(folder(tmp_path))
    link.unlink()
    lost = tmp_path / "train" / "emu"
    lost.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=f"{lost} is a link to"):
        check(folder(tmp_path))
    lost.unlink()
    link.symlink_to(link)
    with pytest.raises(UserError, match=str(link)):
        load(folder(tmp_path))


def test_a_link_to_a_file_or_a_class_folder_is_followed(tmp_path):
    make_tree(tmp_path / "real")
    for split in ("train", "test"):
        (tmp_path / "linked" / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (tmp_path / "linked" / split / name).symlink_to(tmp_path / "real" / split / name)
    data = load(folder(tmp_path / "linked"))
    assert data.fingerprint == load(folder(tmp_path / "real")).fingerprint


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    make_tree(tmp_path)
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match="train/dog cannot be listed: Permission denied"):
        load(folder(tmp_path))


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_class_is_the_same_in_both_of_unicodes_forms(tmp_path):
    make_tree(tmp_path, classes=(COMPOSED, "dog"))
    plain = load(folder(tmp_path))
    (tmp_path / "test" / COMPOSED).rename(tmp_path / "test" / DECOMPOSED)
    data = load(folder(tmp_path))
    assert data.classes == plain.classes == (COMPOSED, "dog")
    assert data.fingerprint == plain.fingerprint


def test_two_classes_that_differ_by_unicodes_form_alone_are_refused(tmp_path):
    make_tree(tmp_path, classes=(COMPOSED, DECOMPOSED))
    with pytest.raises(UserError, match=f"two folders '{COMPOSED}'"):
        load(folder(tmp_path))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_an_image_is_turned_as_its_exif_orientation_says(tmp_path, suffix):
    stored = np.zeros((8, 8, 3), dtype=np.uint8)
    stored[:4] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turned to the right
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(stored).save(path, exif=exif)
    rgb, mode = image_trees.read_rgb(path)
    shown = np.asarray(rgb).astype(int)
    assert mode == "RGB"
    assert shown[:, 5:].min() > 200
    assert shown[:, :3].max() < 50


def test_the_size_of_a_tree_of_turned_images_is_that_of_the_shown_ones(tmp_path):
    root = make_tree(tmp_path, sizes=(12, 8))
    exif = Image.Exif()
    exif[0x0112] = 8
    for path in root.glob("*/*/*.png"):
        Image.open(path).save(path, exif=exif)
    with pytest.raises(UserError, match="is 8×12 pixels; set image_size"):
        load(folder(root))


@pytest.mark.parametrize(("has", "lacks"), [("train", "test"), ("test", "train")])
def test_class_that_one_split_lacks_is_named(tmp_path, has, lacks):
    make_tree(tmp_path)
    (tmp_path / has / "emu").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / has / "emu" / "0.png")
    for look in (load, check):
        with pytest.raises(
            UserError, match=f"class emu is in {tmp_path / has} but not in {tmp_path / lacks}"
        ):
            look(folder(tmp_path))


def test_empty_class_and_empty_split_and_folders_within_a_class_are_named(tmp_path):
    make_tree(tmp_path)
    nested = tmp_path / "train" / "dog" / "more"
    nested.mkdir()
    with pytest.raises(UserError, match=f"{nested} is a folder within a class"):
        load(folder(tmp_path))
    nested.rmdir()
    (tmp_path / "test" / "emu").mkdir()
    with pytest.raises(UserError, match=r"test/emu holds no image; expected: files with \.bmp"):
        load(folder(tmp_path))
    (tmp_path / "empty" / "train").mkdir(parents=True)
    (tmp_path / "empty" / "test").mkdir()
    with pytest.raises(UserError, match="empty/train holds no class folders"):
        load(folder(tmp_path / "empty"))


def test_missing_tree_names_the_path_the_layout_and_the_command(tmp_path):
    gone = tmp_path / "gone"
    for look in (load, check, fetch):
        with pytest.raises(UserError) as error:
            look(folder(gone))
        for part in (str(gone / "train"), "train/<class>/*", ".jpeg", f"noiseutils data make {gone}"):
            assert part in str(error.value)
    with pytest.raises(UserError, match="'folder' needs `root`"):
        load(Data(name="folder"))


def test_check_of_a_tree_counts_without_decoding_and_fetch_caches_it(tmp_path, monkeypatch):
    make_tree(tmp_path)
    calls = counted_decodes(monkeypatch)
    assert "8 training and 4 test images, 2 classes: cat, dog" in check(folder(tmp_path))
    assert not calls
    assert "8 training" in fetch(folder(tmp_path))
    load(folder(tmp_path))
    assert calls == [1]
