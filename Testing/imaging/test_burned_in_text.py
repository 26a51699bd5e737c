"""Burned-in text is found and blackened; anatomy is left alone. Fixed pictures, so that the numbers are the same each time."""

import io

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageDraw, ImageFilter, ImageFont
from support.phantoms import ct_phantom

from MedFMLib.core.geometry import PLANES
from MedFMLib.core.view import make_view, window_for
from MedFMLib.files import read_image
from MedFMLib.imaging import burned_in_text

TEXTS = ("DOE JANE F 042Y", "1957-03-12", "ST. MARY HOSPITAL", "ID 0048213", "Dr. Smith")
HEIGHT, WIDTH = 480, 640


def black():
    """As around most images of machines."""
    return np.zeros((HEIGHT, WIDTH), np.uint8)


def ultrasound():
    """Speckle in a fan."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    fan = (np.hypot(y - 10, x - WIDTH / 2) < 0.85 * HEIGHT) & (abs(x - WIDTH / 2) < (y + 20) * 0.6)
    noise = Picture.fromarray(np.clip(rng.rayleigh(50, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8))
    return np.where(fan, np.asarray(noise.filter(ImageFilter.GaussianBlur(1.2))), 0).astype(np.uint8)


def radiograph():
    """Soft shadows with noise, bright to the border."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    shadow = np.exp(-(((y / HEIGHT - 0.5) / 0.35) ** 2) - ((x / WIDTH - 0.5) / 0.3) ** 2)
    return np.clip(60 + 100 * shadow + rng.normal(0, 4, y.shape), 0, 255).astype(np.uint8)


def colour(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def written(ground, text, size, level, place):
    """(picture with a text, bool where its letters are)."""
    picture, font = Picture.fromarray(ground), ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    _, _, width, height = draw.textbbox((0, 0), text, font=font)
    corner = {"top left": (12, 10), "bottom right": (WIDTH - width - 12, HEIGHT - height - 14), "left": (10, 240)}[
        place
    ]
    draw.text(corner, text, fill=level, font=font)
    changed = np.asarray(picture)
    return changed, abs(changed.astype(int) - ground) > 40


@pytest.mark.parametrize(("ground", "least"), [(black, 0.98), (ultrasound, 0.97), (radiograph, 0.92)])
def test_planted_texts_are_found_and_blackened(ground, least):
    plain, hidden, total, lines = ground(), 0, 0, []
    for size in (10, 16, 32):
        for level in (255, 120):
            here = 0
            for number, text in enumerate(TEXTS):
                picture, letters = written(plain, text, size, level, ("top left", "left")[number % 2])
                clean, _ = burned_in_text.mask(colour(picture))
                here += (clean[..., 0][letters] > 0).mean() <= 0.05
            lines.append(f"{size} pixels, grey {level}: {here} of 5")
            hidden, total = hidden + here, total + 5
    print(f"burned-in text on {ground.__name__}: {hidden} of {total} texts blackened ({'; '.join(lines)})")
    assert hidden >= least * total, lines


CHANGES = {
    "made smaller": lambda p: p.resize((WIDTH * 2 // 3, HEIGHT * 2 // 3), Picture.Resampling.BILINEAR),
    "made larger": lambda p: p.resize((WIDTH * 3 // 2, HEIGHT * 3 // 2), Picture.Resampling.BILINEAR),
    "JPEG": lambda p: Picture.open(_jpeg(p)).convert("L"),
    "blurred": lambda p: p.filter(ImageFilter.GaussianBlur(0.8)),
}


def _jpeg(picture):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=70)
    return stream


@pytest.mark.parametrize("change", CHANGES)
def test_texts_are_found_though_the_picture_was_changed_afterwards(change):
    hidden, total, plain = 0, 0, radiograph()
    for size in (14, 20, 32):
        for text in TEXTS:
            picture, letters = written(plain, text, size, 220, "top left")
            changed = np.asarray(CHANGES[change](Picture.fromarray(picture)))
            letters = np.asarray(Picture.fromarray(letters).resize(changed.shape[::-1]))
            hidden, total = (
                hidden + ((burned_in_text.mask(colour(changed))[0][..., 0][letters] > 0).mean() <= 0.05),
                total + 1,
            )
    print(f"burned-in text, {change}: {hidden} of {total} texts blackened")
    assert hidden >= 0.85 * total


def test_dark_letters_on_a_bright_ground_are_found():
    picture, letters = written(np.full((HEIGHT, WIDTH), 230, np.uint8), TEXTS[0], 16, 20, "top left")
    clean, areas = burned_in_text.mask(colour(picture))
    assert len(areas) == 1 and not clean[..., 0][letters].any()


def test_only_the_text_is_blackened_and_counted():
    plain = ultrasound()
    picture, letters = written(plain, TEXTS[0], 16, 255, "top left")
    picture, more = written(picture, TEXTS[1], 16, 255, "bottom right")
    clean, areas = burned_in_text.mask(colour(picture))
    assert len(areas) == 2
    blackened = np.zeros(plain.shape, bool)
    for a in areas:
        blackened[a.top : a.bottom, a.left : a.right] = True
    assert blackened.mean() < 0.02 and not clean[blackened].any()
    assert (clean[~blackened] == colour(picture)[~blackened]).all()
    assert blackened[letters].mean() > 0.95 and blackened[more].mean() > 0.95


@pytest.mark.parametrize("ground", [black, ultrasound, radiograph])
def test_a_picture_without_text_comes_back_as_it_is(ground):
    picture = colour(ground())
    clean, areas = burned_in_text.mask(picture)
    assert areas == () and clean is picture


def mr_phantom_slice(size=256):
    """A head in MR: scalp, skull, folded cortex, ventricles, noise."""
    rng = np.random.default_rng(1)
    y, x = (np.mgrid[:size, :size] - size / 2) / (size / 2)
    radius, angle = np.hypot(x / 0.75, y / 0.9), np.arctan2(y, x)
    folds = 0.04 * np.sin(24 * angle) + 0.02 * np.sin(41 * angle)
    values = np.zeros((size, size))
    values[radius < 1] = 220
    values[radius < 0.94] = 20
    values[radius < 0.86 + folds] = 110
    values[radius < 0.74 + folds] = 170
    values[np.hypot((abs(x) - 0.12) / 0.08, y / 0.3) < 1] = 25
    return np.clip(values + rng.normal(0, 6, values.shape), 0, 255).astype(np.uint8)


def test_anatomy_in_phantoms_is_left_alone():
    image = ct_phantom()
    for plane in PLANES:
        for number in range(0, image.geometry.shape[image.geometry.index_axis(plane)], 4):
            view = make_view(image, plane, number)
            for pixels in (view.pixels, view.square(512)):
                assert burned_in_text.find(pixels) == ()
    for size in (192, 256, 512):
        assert burned_in_text.find(colour(mr_phantom_slice(size))) == ()


@pytest.mark.parametrize(
    "parts",
    [("brain_tumor", "brain1_image.nrrd"), ("brain_t1", "t1_head.nii.gz"), ("ct_chest", "chest_ct.nii.gz"),
     ("brain_lesion", "t2.nii.gz")],
    ids="/".join,
)  # fmt: skip
def test_anatomy_in_real_volumes_is_left_alone(open_data, parts):
    image = read_image(open_data(*parts))
    window, views, touched = window_for(image), 0, 0
    for plane in PLANES:
        count = image.geometry.shape[image.geometry.index_axis(plane)]
        for number in np.unique(np.linspace(0, count - 1, 12).astype(int)):
            views, touched = (
                views + 1,
                touched + bool(burned_in_text.find(make_view(image, plane, int(number), window).pixels)),
            )
    print(f"{'/'.join(parts)}: areas in {touched} of {views} slices")
    assert touched <= 0.03 * views


def test_captions_that_others_burned_into_pictures_are_found(open_data):
    folder = open_data("medpix2", "images")
    pictures = sorted(folder.glob("*.png"))[:40]
    found = 0
    for path in pictures:
        picture = np.asarray(Picture.open(path).convert("RGB"))
        found += any(area.bottom > 0.8 * len(picture) for area in burned_in_text.find(picture))
    print(f"captions found in {found} of {len(pictures)} pictures")
    assert found >= 0.6 * len(pictures)
