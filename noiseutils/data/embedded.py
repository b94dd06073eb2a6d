"""Two data sets that need no download, equal byte for byte on every machine.

`shapes` is drawn: every number comes from an integer hash of (split, image, slot), and the arithmetic is
kept to operations that IEEE 754 rounds exactly (+, -, *, /, comparisons) on single elements, so that no
library's sine, no order of a sum and no version of a random generator can change a pixel. `digits` are real
scans that scikit-learn ships, enlarged in integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SHAPES = ("arrow", "crescent", "cross", "disc", "frame", "heart", "ring", "square", "star", "triangle")
DIGITS = tuple("0123456789")

IMAGE_SIDE = 32  # pixels of a shapes image; drawn at twice that and averaged
CHUNK_IMAGES = 64  # images drawn at once: their planes fit in a core's cache

# How hard the set is. Measured with conv32-pool-conv64-pool-fc128-fc10, SGD, 15 epochs: 96 % on the 2,000
# training images, 74 % on the test images. The network learns nothing where shapes are turned all the way
# round and lack LEAST_CONTRAST; it reaches 84 % with one piece behind and a smaller LARGEST_TILT, 98 % with
# no clutter.
BEHIND, BEFORE = 2, 1  # pieces of clutter behind and in front of a shape
LARGEST_TILT = 0.2  # tangent of half the largest angle, 23° either way
LARGEST_OFFSET = 0.2  # how far a shape's middle lies from the image's, in halves of its side
LEAST_CONTRAST = 90  # least difference of shape and ground in each channel, of 255
LARGEST_TONE_GAP = 60  # largest difference of a texture's two tones in each channel
NOISE_AMPLITUDE = 48  # largest amplitude of the pixel noise (a triangle around 0), of 255

Floats = np.ndarray


class Arrays(NamedTuple):
    """Hold both splits. pixels: (N, H, W, C) uint8.   labels: (N,) int64, indices into classes."""

    train_pixels: np.ndarray
    train_labels: np.ndarray
    test_pixels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]


def shapes(train_size: int = 2000, test_size: int = 1000) -> Arrays:
    """Draw coloured, textured shapes in clutter: (N, 32, 32, 3) uint8, ten classes.

    Every ten images in a row hold each class once. The n-th image of a split is the same whatever the sizes.
    The splits come from separate streams.
    """
    return Arrays(*_draw(1, train_size), *_draw(2, test_size), SHAPES)


def digits() -> Arrays:
    """Load the 1,797 handwritten digits of scikit-learn (UCI *Optical Recognition*), as (N, 28, 28, 1) uint8.

    8×8 scans with values 0 to 16, enlarged bilinearly (pixel centres aligned at the middle, edges held) and
    scaled to 0 to 255, rounded to nearest. Of each class the 5th, 10th, 15th, … scan is the test set.
    """
    from sklearn.datasets import load_digits  # half a second to import

    scans, labels = load_digits(return_X_y=True)
    scans = np.asarray(scans).reshape(-1, 8, 8).astype(np.int64)
    labels = np.asarray(labels).astype(np.int64)
    weights = _bilinear_weights(8, 28)
    # integer products are exact, so the order in which they are summed does not matter
    enlarged = weights @ scans @ weights.T
    full = 16 * 14 * 14
    pixels = ((enlarged * 255 + full // 2) // full).astype(np.uint8)[..., None]
    test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return Arrays(pixels[~test], labels[~test], pixels[test], labels[test], DIGITS)


def _bilinear_weights(old: int, new: int) -> np.ndarray:
    """Return (new, old) integer weights, rows summing to 14: target i is at source (4 i - 5) / 14."""
    weights = np.zeros((new, old), dtype=np.int64)
    for i in range(new):
        left, part = divmod(4 * i - 5, 14)
        weights[i, max(left, 0)] += 14 - part
        weights[i, min(left + 1, old - 1)] += part
    return weights


def _hash(stream: int, image: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Return (N, S) uniform 64-bit integers, one per image and slot: SplitMix64's finaliser on a counter."""
    x = (image.astype(np.uint64)[:, None] << np.uint64(16)) + slots.astype(np.uint64)[None, :]
    x = (x + np.uint64(stream << 48)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class _Draws:
    """Draw numbers for a range of images, each draw from a slot of its own."""

    def __init__(self, stream: int, image: np.ndarray) -> None:
        self.stream, self.image, self.slot = stream, image, 0

    def _next(self, count: int) -> np.ndarray:
        self.slot += count
        return _hash(self.stream, self.image, np.arange(self.slot - count, self.slot))

    def uniform(self, low: float, high: float, count: int = 1) -> Floats:
        """Draw (N, count) float32 in [low, high)."""
        unit = (self._next(count) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        return np.float32(low) + np.float32(high - low) * unit

    def integer(self, high: int, count: int = 1) -> np.ndarray:
        """Draw (N, count) int64 in 0 … high - 1."""
        return (((self._next(count) >> np.uint64(32)) * np.uint64(high)) >> np.uint64(32)).astype(np.int64)

    def rotation(self, tilt: float | None = None) -> tuple[Floats, Floats]:
        """Draw (N, 1) cos and sin from t: ((1 - t²), 2t) / (1 + t²), |t| <= tilt; None: any angle."""
        t = self.uniform(-1, 1) if tilt is None else self.uniform(-tilt, tilt)
        sign = 1 if tilt is not None else (1 - 2 * self.integer(2)).astype(np.float32)
        below = 1 + t * t
        return sign * (1 - t * t) / below, sign * (2 * t) / below


def _draw(stream: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the first `size` images of a stream: (N, 32, 32, 3) uint8 and their labels, (N,) int64."""
    tens = np.arange((size + 9) // 10)
    labels = np.argsort(_hash(stream + 16, tens, np.arange(10)), axis=1, kind="stable").reshape(-1)[:size]
    pixels = np.empty((size, IMAGE_SIDE, IMAGE_SIDE, 3), dtype=np.uint8)
    for start in range(0, size, CHUNK_IMAGES):
        stop = min(start + CHUNK_IMAGES, size)
        pixels[start:stop] = _draw_chunk(stream, np.arange(start, stop), labels[start:stop])
    return pixels, labels.astype(np.int64)


def _draw_chunk(stream: int, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw (N, 32, 32, 3) uint8: ground, clutter, the labels' shapes, clutter in front of the shapes."""
    draws = _Draws(stream, image)
    # which colour lies on top at each subpixel: an index into the image's palette
    layer = _texture(draws)
    for item in range(BEHIND):
        layer[_clutter(draws, 0.15, 0.5)] = 2 + item
    shape = _shape(draws, labels)
    layer = np.where(shape, 2 + BEHIND + _texture(draws), layer)
    for item in range(BEFORE):
        layer[_clutter(draws, 0.08, 0.28)] = 4 + BEHIND + item
    return _develop(draws, layer)


def _plane(x: Floats, y: Floats, offset: Floats) -> Floats:
    """Return (N, 64, 64): x X + y Y + offset, X to the right and Y down from -1 to 1; x, y, offset (N, 1)."""
    at = (2 * np.arange(2 * IMAGE_SIDE, dtype=np.float32) + 1 - 2 * IMAGE_SIDE) / np.float32(2 * IMAGE_SIDE)
    return (x * at)[:, None, :] + (y * at + offset)[:, :, None]


def _placed(
    draws: _Draws, reach: float, along: Floats, across: Floats, tilt: float | None = None
) -> tuple[Floats, Floats]:
    """Draw (N, 64, 64) coordinates of a figure of half sizes (N, 1), turned, up to `reach` off the middle."""
    cos, sin = draws.rotation(tilt)
    x, y = draws.uniform(-reach, reach), draws.uniform(-reach, reach)
    u = _plane(cos / along, sin / along, -(cos * x + sin * y) / along)
    v = _plane(-sin / across, cos / across, (sin * x - cos * y) / across)
    return u, v


def _texture(draws: _Draws) -> np.ndarray:
    """Draw (N, 64, 64) int64 of 0 and 1: plain, stripes, checks or dots, at any angle and spacing."""
    cos, sin = draws.rotation()
    pitch = draws.uniform(0.16, 0.5)
    u = _plane(cos / pitch, sin / pitch, draws.uniform(0, 2))
    v = _plane(-sin / pitch, cos / pitch, draws.uniform(0, 2))
    kind = draws.integer(4)[:, 0]
    texture = np.zeros(u.shape, dtype=np.int64)
    texture[kind == 1] = np.floor(u[kind == 1]).astype(np.int64) & 1
    texture[kind == 2] = (np.floor(u[kind == 2]) + np.floor(v[kind == 2])).astype(np.int64) & 1
    a, b = u[kind == 3] - np.floor(u[kind == 3]) - 0.5, v[kind == 3] - np.floor(v[kind == 3]) - 0.5
    texture[kind == 3] = a * a + b * b < 0.12
    return texture


def _clutter(draws: _Draws, low: float, high: float) -> np.ndarray:
    """Draw (N, 64, 64) bool: a box, or an ellipse, somewhere in the image."""
    u, v = _placed(draws, 1.0, draws.uniform(low, high), draws.uniform(low, high))
    u, v = np.abs(u), np.abs(v)
    box = draws.integer(2).astype(bool)[:, :, None]
    return np.where(box, np.maximum(u, v), u * u + v * v) <= 1


def _shape(draws: _Draws, labels: np.ndarray) -> np.ndarray:
    """Draw (N, 64, 64) bool: inside the shape that the label names."""
    size = draws.uniform(0.42, 0.64)
    u, v = _placed(draws, LARGEST_OFFSET, size, size * draws.uniform(0.85, 1.18), LARGEST_TILT)
    inside = np.empty(u.shape, dtype=bool)
    for label, name in enumerate(SHAPES):
        chosen = labels == label
        if chosen.any():
            inside[chosen] = INSIDE_SHAPE[name](u[chosen], v[chosen])
    return inside


def _develop(draws: _Draws, layer: np.ndarray) -> np.ndarray:
    """Make (N, 32, 32, 3) uint8 of (N, 64, 64) palette indices: colour, average 2×2, add noise."""
    count = 4 + BEHIND + BEFORE
    palette = draws.integer(256, 3 * count).reshape(-1, count, 3)
    ground, figure = palette[:, 0], palette[:, 2 + BEHIND]
    figure[:] = (ground + LEAST_CONTRAST + (figure * (256 - 2 * LEAST_CONTRAST) >> 8)) & 255
    for first in (0, 2 + BEHIND):
        other = palette[:, first] + (palette[:, first + 1] * 2 * LARGEST_TONE_GAP >> 8) - LARGEST_TONE_GAP
        palette[:, first + 1] = np.clip(other, 0, 255)
    # red, green and blue side by side in one integer, ten bits each: four pixels are added in one go
    packed = palette[..., 0] | palette[..., 1] << 10 | palette[..., 2] << 20
    coloured = packed.astype(np.int32).reshape(-1)[layer + count * np.arange(len(layer))[:, None, None]]
    four = coloured[:, ::2, ::2] + coloured[:, 1::2, ::2] + coloured[:, ::2, 1::2] + coloured[:, 1::2, 1::2]
    colour = np.stack([four & 1023, four >> 10 & 1023, four >> 20], axis=-1)  # 0 … 1020
    # a difference of two bytes: a triangle around 0
    noise = _hash(draws.stream, draws.image, np.arange(1024, 1024 + IMAGE_SIDE * IMAGE_SIDE))
    pairs = noise.astype("<u8").view(np.uint8).reshape(-1, IMAGE_SIDE, IMAGE_SIDE, 8).astype(np.int32)
    amplitude = 8 + draws.integer(NOISE_AMPLITUDE - 8).astype(np.int32)[:, :, None, None]
    noisy = colour * 64 + (pairs[..., 0:3] - pairs[..., 3:6]) * amplitude
    return np.clip((noisy + 128) >> 8, 0, 255).astype(np.uint8)


def _disc(u: Floats, v: Floats) -> np.ndarray:
    return u * u + v * v <= 1


def _ring(u: Floats, v: Floats) -> np.ndarray:
    r = u * u + v * v
    return (r <= 1) & (r >= 0.3)


def _crescent(u: Floats, v: Floats) -> np.ndarray:
    bite = u - 0.5
    return (u * u + v * v <= 1) & (bite * bite + v * v >= 0.62)


def _square(u: Floats, v: Floats) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) <= 0.85


def _frame(u: Floats, v: Floats) -> np.ndarray:
    r = np.maximum(np.abs(u), np.abs(v))
    return (r <= 0.88) & (r >= 0.5)


def _cross(u: Floats, v: Floats) -> np.ndarray:
    a, b = np.abs(u), np.abs(v)
    return (np.maximum(a, b) <= 1) & (np.minimum(a, b) <= 0.3)


def _triangle(u: Floats, v: Floats) -> np.ndarray:
    return (v <= 0.6) & (np.abs(u) * 1.75 - v <= 1.1)


def _arrow(u: Floats, v: Floats) -> np.ndarray:
    a = np.abs(u)
    head = (v <= 0.05) & (a <= (v + 1) * 0.8)
    return head | ((a <= 0.27) & (v >= 0) & (v <= 1))


def _heart(u: Floats, v: Floats) -> np.ndarray:
    a, b = u * 1.15, -v * 1.15 + 0.1
    r = a * a + b * b - 1
    return r * r * r <= a * a * b * b * b


def _star(u: Floats, v: Floats) -> np.ndarray:
    # a point of a five-pointed star is on the inner side of at least four of the pentagram's five lines
    edge = np.float32(0.35)
    count = (v <= edge).astype(np.int8)
    for x, y in ((0.95105654, 0.309017), (0.58778524, -0.809017)):  # sin and cos of 72° and 144°
        for w in (u, -u):
            count += w * np.float32(x) + v * np.float32(y) <= edge
    return count >= 4


INSIDE_SHAPE: dict[str, Callable[[Floats, Floats], np.ndarray]] = {
    "arrow": _arrow,
    "crescent": _crescent,
    "cross": _cross,
    "disc": _disc,
    "frame": _frame,
    "heart": _heart,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}
