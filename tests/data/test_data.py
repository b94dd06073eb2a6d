"""Data sets: exact, whole or refused; and batches equal to a slow reference, image by image."""

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from noiseutils import provenance
from noiseutils.config import Data
from noiseutils.data import (
    Dataset,
    Images,
    batches,
    crop_and_flip,
    draw_augmentation,
    image_trees,
    load,
    to_float,
    torchvision_sets,
)
from noiseutils.data.availability import check, fetch, overview
from noiseutils.errors import UserError
from noiseutils.rng import generator


@pytest.fixture(autouse=True)
def _no_data_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("NOISEUTILS_DATA", str(tmp_path / "nothing here"))


def some_images(n=50, channels=3, size=8, seed=0):
    draws = np.random.RandomState(seed)
    pixels = torch.from_numpy(draws.randint(0, 256, (n, size, size, channels)).astype(np.uint8))
    return Images(pixels.permute(0, 3, 1, 2), torch.arange(n))


def make_tree(root, sizes=(8, 8), train=4, test=2, mode="RGB", classes=("cat", "dog")):
    draws = np.random.RandomState(1)
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draws.randint(0, 256, (sizes[1], sizes[0], 3)).astype(np.uint8)
                Image.fromarray(pixels).convert(mode).save(root / split / name / f"{i}.png")
    return root


def folder(root, **changes):
    return Data(name="folder", root=str(root), **changes)


def pixel_rows(images):
    return sorted(image.numpy().tobytes() for image in images.pixels.contiguous())


# --- batches


def crop_and_flip_one_by_one(images, offsets, flips, padding):
    cut = []
    for image, (top, left), flip in zip(images, offsets.tolist(), flips.tolist(), strict=True):
        c, h, w = image.shape
        padded = torch.zeros((c, h + 2 * padding, w + 2 * padding), dtype=torch.uint8)
        padded[:, padding : padding + h, padding : padding + w] = image
        crop = padded[:, top : top + h, left : left + w]
        cut.append(crop.flip(2) if flip else crop)
    return torch.stack(cut)


@pytest.mark.parametrize(("channels", "h", "w", "padding"), [(3, 32, 32, 4), (1, 28, 28, 4), (3, 5, 9, 2)])
def test_crop_and_flip_equals_the_slow_reference(channels, h, w, padding):
    images = torch.randint(256, (200, channels, h, w), dtype=torch.uint8)
    offsets, flips = draw_augmentation(200, generator(0, "test"), padding)
    ours = crop_and_flip(images, offsets, flips, padding)
    assert torch.equal(ours, crop_and_flip_one_by_one(images, offsets, flips, padding))
    channels_last = images.to(memory_format=torch.channels_last)
    assert torch.equal(ours, crop_and_flip(channels_last, offsets, flips, padding))


def test_every_offset_with_and_without_flip_equals_the_slow_reference():
    offsets = torch.cartesian_prod(torch.arange(5), torch.arange(5)).repeat(2, 1)
    flips = torch.arange(50) < 25
    images = some_images(50).pixels
    ours = crop_and_flip(images, offsets, flips, 2)
    assert torch.equal(ours, crop_and_flip_one_by_one(images, offsets, flips, 2))


def test_middle_crop_without_flip_is_the_image():
    images = some_images().pixels
    middle = torch.full((50, 2), 4)
    assert torch.equal(crop_and_flip(images, middle, torch.zeros(50, dtype=torch.bool)), images)


def test_draws_cover_all_offsets_evenly_and_flip_half():
    offsets, flips = draw_augmentation(20_000, generator(3, "test"))
    for axis in range(2):
        counts = torch.bincount(offsets[:, axis])
        assert len(counts) == 9
        assert (counts - 20_000 / 9).abs().max() < 250
    assert abs(flips.float().mean() - 0.5) < 0.02


def test_to_float_maps_bytes_to_exactly_rounded_255ths_channels_last():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8)
    floats = to_float(pixels)
    expected = (np.arange(256) / 255).astype(np.float32)
    assert floats.dtype == torch.float32
    assert (floats.flatten().numpy() == expected).all()
    assert floats.is_contiguous(memory_format=torch.channels_last)
    planes = to_float(pixels, torch.contiguous_format)
    assert torch.equal(planes, floats)
    assert planes.is_contiguous()
    assert pixels.flatten()[255] == 255


def test_batches_without_order_are_the_stored_images_and_keep_the_smaller_last_one():
    images = some_images()
    found = list(batches(images, 16))
    assert [len(y) for _, y in found] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([x for x, _ in found]), to_float(images.pixels))
    assert torch.equal(torch.cat([y for _, y in found]), images.labels)


def test_ordered_batches_hold_every_image_once_with_its_label_in_a_new_order_each_call():
    images, order = some_images(), generator(0, "data")
    epochs = []
    for _ in range(2):
        found = list(batches(images, 16, order=order))
        assert [len(y) for _, y in found] == [16, 16, 16, 2]
        labels = torch.cat([y for _, y in found])
        assert torch.equal(labels.sort().values, images.labels)
        assert torch.equal(torch.cat([x for x, _ in found]), to_float(images.pixels)[labels])
        epochs.append(labels)
    assert not torch.equal(epochs[0], epochs[1])


def test_same_seed_gives_the_same_batches():
    images = some_images()
    first, second = (
        list(batches(images, 16, order=generator(5, "data"), augmentation=generator(5, "augmentation")))
        for _ in range(2)
    )
    assert all(torch.equal(a, b) and torch.equal(y, z) for (a, y), (b, z) in zip(first, second, strict=True))


def test_augmentation_does_not_change_the_batch_order_and_crops_each_image_by_its_own_draw():
    images = some_images()
    plain = list(batches(images, 16, order=generator(5, "data")))
    cropped = list(batches(images, 16, order=generator(5, "data"), augmentation=generator(5, "augmentation")))
    assert [y.tolist() for _, y in plain] == [y.tolist() for _, y in cropped]
    offsets, flips = draw_augmentation(50, generator(5, "augmentation"))
    order = torch.cat([y for _, y in plain])
    expected = crop_and_flip_one_by_one(images.pixels[order], offsets, flips, 4)
    assert torch.equal(torch.cat([x for x, _ in cropped]), to_float(expected))


def test_batches_leave_the_stored_pixels_and_the_global_generator_alone():
    images = some_images()
    before, state = images.pixels.clone(), torch.get_rng_state()
    for x, _ in batches(images, 16, order=generator(0, "data"), augmentation=generator(0, "augmentation")):
        x.zero_()
    assert torch.equal(images.pixels, before)
    assert torch.equal(torch.get_rng_state(), state)


# --- what a set is


def test_mean_and_std_equal_those_of_the_float_pixels():
    train = some_images(40, channels=3, seed=4)
    data = Dataset(train, train, ("a",), "a", "")
    floats = train.pixels.to(torch.float64) / 255
    assert data.mean == pytest.approx(floats.mean(dim=(0, 2, 3)).tolist(), abs=1e-12)
    assert data.std == pytest.approx(floats.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-12)


def test_take_and_subset_give_the_images_asked_for():
    images = some_images()
    assert torch.equal(images.take(7).pixels, images.pixels[:7])
    assert len(images.take(99)) == 50
    chosen = images.subset(torch.tensor([3, 1, 3]))
    assert torch.equal(chosen.pixels, images.pixels[[3, 1, 3]])
    assert chosen.labels.tolist() == [3, 1, 3]


def test_loaded_set_says_what_it_is():
    data = load(Data(name="digits"))
    assert (data.channels, data.image_size, data.num_classes, data.label) == (1, 28, 10, "digits")
    assert data.train.pixels.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert len(data.fingerprint) == 64
    shapes = load(Data(name="shapes", train_size=30, test_size=20))
    assert (shapes.channels, shapes.image_size, len(shapes.train), len(shapes.test)) == (3, 32, 30, 20)
    assert shapes.train.pixels.is_contiguous()


def test_fingerprint_follows_the_pixels_and_labels_that_are_used():
    prints = [
        load(Data(name="shapes", train_size=a, test_size=b)).fingerprint
        for a, b in ((30, 20), (30, 20), (20, 20), (30, 30))
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_moving_a_set_keeps_its_pixels_and_its_fingerprint():
    data = load(Data(name="shapes", train_size=10, test_size=10))
    moved = data.to("cpu")
    assert torch.equal(moved.train.pixels, data.train.pixels)
    assert moved.fingerprint == data.fingerprint


def test_a_size_takes_a_fixed_choice_and_a_smaller_one_is_part_of_a_larger():
    whole, large, small = (load(Data(name="digits", train_size=n)) for n in (None, 500, 100))
    again = load(Data(name="digits", train_size=100))
    assert torch.equal(small.train.pixels, again.train.pixels)
    assert torch.equal(small.train.pixels, large.train.pixels[:100])
    assert set(pixel_rows(large.train)) < set(pixel_rows(whole.train))
    assert len(set(small.train.labels.tolist())) == 10
    assert not torch.equal(small.train.pixels, whole.train.pixels[:100])


def test_more_images_than_there_are_is_an_error_with_the_numbers(tmp_path):
    with pytest.raises(UserError, match=r"train_size 2,000 .* digits has 1,442 train images"):
        load(Data(name="digits", train_size=2000))
    with pytest.raises(UserError, match=r"test_size 5 .* has 4 test images"):
        load(folder(make_tree(tmp_path / "pets"), test_size=5))


def test_image_size_is_refused_where_nothing_is_resized():
    assert load(Data(name="digits", image_size=28)).image_size == 28
    with pytest.raises(UserError, match="image_size 32 does not fit digits, whose images are 28"):
        load(Data(name="digits", image_size=32))


# --- torchvision's four


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def make_idx(raw, train=20, test=10):
    draws, arrays = np.random.RandomState(2), {}
    for prefix, n in (("train", train), ("t10k", test)):
        arrays[prefix] = draws.randint(0, 256, (n, 28, 28)), np.arange(n) % 10
        write_idx(raw / f"{prefix}-images-idx3-ubyte", arrays[prefix][0])
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", arrays[prefix][1])
    return arrays


def own(root, label="fashion-subset"):
    return Data(name="fashion_mnist", root=str(root), label=label)


@pytest.mark.parametrize("below", ["FashionMNIST/raw", "raw", "."])
def test_idx_files_with_a_label_of_their_own_are_read_whole_from_every_layout(tmp_path, below):
    arrays = make_idx(tmp_path / below)
    data = load(own(tmp_path))
    assert data.label == "fashion-subset"
    assert (data.train.pixels.squeeze(1).numpy() == arrays["train"][0]).all()
    assert (data.test.pixels.squeeze(1).numpy() == arrays["t10k"][0]).all()
    assert data.test.labels.tolist() == arrays["t10k"][1].tolist()
    assert data.classes[9] == "Ankle boot"


def test_idx_files_that_are_not_the_official_ones_are_refused_under_the_official_name(tmp_path):
    make_idx(tmp_path / "MNIST" / "raw")
    for look in (load, check):
        with pytest.raises(UserError, match=r"label(.|\n)*train-images-idx3-ubyte: not the official file"):
            look(Data(name="mnist", root=str(tmp_path)))


def test_idx_files_with_the_official_sums_need_no_label(tmp_path, monkeypatch):
    make_idx(tmp_path / "MNIST" / "raw")
    sums = tuple(
        hashlib.md5((tmp_path / "MNIST" / "raw" / f"{name}-ubyte").read_bytes()).hexdigest()
        for name in torchvision_sets.IDX_FILES
    )
    monkeypatch.setitem(torchvision_sets.IDX_MD5, "mnist", sums)
    data = load(Data(name="mnist", root=str(tmp_path)))
    assert data.label == "mnist"
    assert data.classes == tuple("0123456789")
    assert "checksum right" in check(Data(name="mnist", root=str(tmp_path)))


def test_torn_idx_file_is_named(tmp_path):
    make_idx(tmp_path)
    torn = tmp_path / "t10k-images-idx3-ubyte"
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{torn} is not a whole IDX file"):
        load(own(tmp_path))


def test_idx_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    make_idx(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(19) % 10)
    with pytest.raises(UserError, match="20 images and 19 labels"):
        load(own(tmp_path))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(20, 10))
    with pytest.raises(UserError, match="labels up to 10"):
        load(own(tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_missing_files_name_the_path_the_layout_and_the_command(tmp_path, name):
    where = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    expected = tmp_path / where.get(name, f"{torchvision_sets.TORCHVISION[name]}/raw")
    for look in (load, check):
        with pytest.raises(UserError) as error:
            look(Data(name=name, root=str(tmp_path)))
        for part in (str(expected), ": missing", "expected", f"noiseutils data make {name}"):
            assert part in str(error.value)


def test_default_root_is_the_environment_variable_then_the_cache_folder(tmp_path, monkeypatch):
    assert provenance.data_root() == tmp_path / "nothing here"
    with pytest.raises(UserError, match="nothing here"):
        load(Data(name="mnist"))
    monkeypatch.delenv("NOISEUTILS_DATA")
    assert provenance.data_root() == Path.home() / ".cache" / "noiseutils" / "data"


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """A CIFAR-10 of 60 images in torchvision's layout, with the sums that torchvision expects of it."""
    base, draws = tmp_path / "cifar-10-batches-py", np.random.RandomState(3)
    base.mkdir()

    def write(name, content):
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def batch(n):
        return {
            "data": draws.randint(0, 256, (n, 3072)).astype(np.uint8),
            "labels": [i % 10 for i in range(n)],
        }

    train = [write(f"data_batch_{i}", batch(10)) for i in range(1, 6)]
    test = [write("test_batch", batch(10))]
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", test)
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "md5": meta[1], "key": "label_names"})
    return tmp_path


def test_cifar_is_read_whole_in_the_order_of_its_files(small_cifar):
    data = load(Data(name="cifar10", root=str(small_cifar)))
    assert (len(data.train), len(data.test), data.classes) == (50, 10, tuple("abcdefghij"))
    second = pickle.loads((small_cifar / "cifar-10-batches-py" / "data_batch_2").read_bytes())
    assert (data.train.pixels[10:20].reshape(10, -1).numpy() == second["data"]).all()
    assert data.train.labels[10:20].tolist() == second["labels"]


def test_cifar_file_with_a_wrong_checksum_is_named_whatever_the_label(small_cifar):
    path = small_cifar / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes() + b" ")
    for label in ("", "mine"):
        with pytest.raises(UserError, match="data_batch_3: not the official file: MD5") as error:
            load(Data(name="cifar10", root=str(small_cifar), label=label))
        assert "data_batch_2: there" in str(error.value)


def test_fetch_asks_torchvision_and_then_checks_what_came(tmp_path, monkeypatch):
    calls = []

    def download(self):
        calls.append(self.root)
        raw = Path(self.raw_folder)
        make_idx(raw)
        (raw / "extra.gz").write_bytes(gzip.compress(b""))

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(UserError, match="not the official file"):
        fetch(Data(name="mnist", root=str(tmp_path)))
    assert [Path(root) for root in calls] == [tmp_path]


def test_failed_download_says_where_to(tmp_path, monkeypatch):
    def download(self):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", download)
    with pytest.raises(UserError, match=f"could not be fetched to {tmp_path}: no route to host"):
        fetch(Data(name="cifar10", root=str(tmp_path)))


def test_embedded_sets_have_nothing_to_fetch():
    assert "made in memory" in fetch(Data(name="digits"))
    assert "made in memory" in check(Data(name="shapes"))


def test_overview_names_every_set_and_where_it_is_looked_for(tmp_path):
    make_idx(tmp_path / "nothing here" / "MNIST" / "raw")
    lines = overview().splitlines()
    for name in ("shapes", "digits", "cifar10", "cifar100", "mnist", "fashion_mnist"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    found = next(line for line in lines if line.startswith("mnist "))
    assert found.endswith("MNIST/raw: there")
    assert "data make cifar10" in overview()


# --- image trees


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


# --- real files, where they are at hand


def test_real_files_are_read_whole():
    given = os.environ.get("NOISEUTILS_TEST_DATA")
    if not given:
        pytest.skip("NOISEUTILS_TEST_DATA is not set: a folder that holds MNIST/raw")
    if not (Path(given) / "MNIST" / "raw").is_dir():
        pytest.skip(f"{given} holds no MNIST/raw")
    data = load(Data(name="mnist", root=given))
    assert (len(data.train), len(data.test), data.classes) == (60_000, 10_000, tuple("0123456789"))
    assert data.mean[0] == pytest.approx(0.1307, abs=1e-4)
    assert data.std[0] == pytest.approx(0.3081, abs=1e-4)
    assert torch.bincount(data.test.labels).tolist()[:3] == [980, 1135, 1032]
