"""Batches equal to a slow reference, image by image."""

import numpy as np
import pytest
import torch
from small_sets import some_images

from noiseutils.data import batches, crop_and_flip, draw_augmentation, to_float
from noiseutils.rng import generator


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
