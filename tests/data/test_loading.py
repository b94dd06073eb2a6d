"""Data sets by name: exact, whole or refused."""

import os
from pathlib import Path

import pytest
import torch
from small_sets import folder, make_tree, pixel_rows, some_images

from noiseutils.config import Data
from noiseutils.data import Dataset, load
from noiseutils.errors import UserError


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
