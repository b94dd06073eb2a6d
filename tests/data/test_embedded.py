"""The embedded data sets: the same bytes everywhere, balanced, and hard in the way that is claimed."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from noiseutils.data import embedded


def digest(*arrays):
    result = hashlib.sha256()
    for array in arrays:
        result.update(repr((array.shape, str(array.dtype))).encode())
        result.update(np.ascontiguousarray(array).tobytes())
    return result.hexdigest()


@pytest.fixture(scope="module")
def shapes():
    return embedded.shapes()


@pytest.fixture(scope="module")
def digits():
    return embedded.digits()


def test_shapes_are_equal_byte_for_byte_to_the_pinned_digest(shapes):
    assert digest(*shapes[:4]) == "33d6f9eb8c407b2309b0aa8f4ce805726bc3b6ac1f20ae345e9ed4e063dba09a"


def test_digits_are_equal_byte_for_byte_to_the_pinned_digest(digits):
    assert digest(*digits[:4]) == "a1d0729183d9abf38cd17189cb6b975b1c8894b78570fa6f5c0b7707dfd4c131"


def test_shapes_and_digits_have_the_stated_form(shapes, digits):
    assert shapes.train_pixels.shape == (2000, 32, 32, 3)
    assert shapes.test_pixels.shape == (1000, 32, 32, 3)
    assert digits.train_pixels.shape == (1442, 28, 28, 1)
    assert digits.test_pixels.shape == (355, 28, 28, 1)
    for arrays in (shapes, digits):
        assert arrays.train_pixels.dtype == arrays.test_pixels.dtype == np.uint8
        assert arrays.train_labels.dtype == arrays.test_labels.dtype == np.int64
        assert len(set(arrays.classes)) == 10
    assert tuple(sorted(embedded.INSIDE_SHAPE)) == shapes.classes


def test_every_ten_shapes_hold_each_class_once(shapes):
    for labels in (shapes.train_labels, shapes.test_labels):
        assert (np.sort(labels.reshape(-1, 10), axis=1) == np.arange(10)).all()
    assert len(np.unique(shapes.train_labels.reshape(-1, 10), axis=0)) > 150  # in no fixed order


def test_digits_test_split_is_every_fifth_of_each_class(digits):
    _, labels = load_digits(return_X_y=True)
    expected = np.bincount(np.asarray(labels)) // 5
    assert (np.bincount(digits.test_labels) == expected).all()
    assert len(digits.train_labels) + len(digits.test_labels) == len(np.asarray(labels)) == 1797


@pytest.mark.parametrize("size", [1, 10, 37, 130])
def test_first_shapes_of_a_split_do_not_depend_on_how_many_are_drawn(shapes, size):
    fewer = embedded.shapes(size, size)
    assert (fewer.train_pixels == shapes.train_pixels[:size]).all()
    assert (fewer.test_pixels == shapes.test_pixels[:size]).all()
    assert (fewer.train_labels == shapes.train_labels[:size]).all()
    assert (fewer.test_labels == shapes.test_labels[:size]).all()


@pytest.mark.parametrize("name", ["shapes", "digits"])
def test_no_image_is_in_both_splits_or_twice_in_one(name, request):
    arrays = request.getfixturevalue(name)
    rows = [image.tobytes() for image in (*arrays.train_pixels, *arrays.test_pixels)]
    assert len(set(rows)) == len(rows)


def test_digits_are_the_scans_enlarged_bilinearly(digits):
    scans, labels = load_digits(return_X_y=True)
    first = np.asarray(scans)[np.flatnonzero(np.asarray(labels) == 3)[4]].reshape(1, 1, 8, 8)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(first), size=(28, 28), mode="bilinear", align_corners=False
    )
    ours = digits.test_pixels[np.flatnonzero(digits.test_labels == 3)[0], ..., 0]
    assert ours.max() > 200
    assert np.abs(ours - expected[0, 0].numpy() * 255 / 16).max() <= 0.5 + 1e-9


def test_figures_differ_from_their_ground_in_every_channel(monkeypatch):
    # without clutter, textures and noise an image has two colours, and they lie at least CONTRAST apart
    monkeypatch.setattr(embedded, "BEHIND", 0)
    monkeypatch.setattr(embedded, "BEFORE", 0)
    monkeypatch.setattr(embedded, "LARGEST_TONE_GAP", 0)
    monkeypatch.setattr(embedded, "_hash", quiet(embedded._hash))
    pixels = embedded.shapes(50, 1).train_pixels.reshape(50, -1, 3)
    spread = pixels.max(axis=1).astype(int) - pixels.min(axis=1)
    assert (spread >= embedded.LEAST_CONTRAST).all()
    assert all(len(np.unique(image, axis=0)) < 200 for image in pixels)


def quiet(real):
    """`_hash` whose draws for pixel noise are zero."""

    def draw(stream, image, slots):
        return real(stream, image, slots) * np.uint64(slots[0] < 1024)

    return draw


def test_every_class_covers_its_own_part_of_the_plane():
    at = (np.arange(200, dtype=np.float32) - 99.5) / 80
    u, v = np.meshgrid(at, at)
    masks = {name: inside(u, v) for name, inside in embedded.INSIDE_SHAPE.items()}
    for name, mask in masks.items():
        assert 0.05 < mask.mean() < 0.6, name
        assert not mask[[0, -1]].any(), name
        for other in set(masks) - {name}:
            overlap = (mask & masks[other]).sum() / (mask | masks[other]).sum()
            assert overlap < 0.85, (name, other, overlap)
