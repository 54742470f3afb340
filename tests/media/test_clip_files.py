"""Clips from and to files: rates, orientation, odd sizes, what says nothing and what is damaged."""

import io
from fractions import Fraction

import av
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat

from genctl.errors import InputError, UsageError
from genctl.media import clips, pictures
from genctl.media.clips import at_rate, encode_film, film_comment, frames_of, last_frames, read_clip
from genctl.media.formats import looks_like_film
from genctl.media.pictures import read_picture
from genctl.media.provenance import read_provenance
from genctl.media.write import encode_clip


def moving(count: int, size: tuple[int, int] = (32, 24)) -> list[Image.Image]:
    """A square that goes to the right, on white."""
    made = []
    for place in range(count):
        image = Image.new("RGB", size, "white")
        ImageDraw.Draw(image).rectangle((2 * place, 4, 2 * place + 7, 11), fill=(200, 30, 30))
        made.append(image)
    return made


def error(a: Image.Image, b: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(a, b)).mean) / 3


@pytest.mark.parametrize("form", ["webp", "gif", "png", "mp4", "webm"])
def test_a_clip_comes_back(form: str) -> None:
    frames, document = moving(9), {"model": "video", "prompt": "a square", "seed": 3}
    data = encode_clip(frames, form, 8, document)
    back = read_clip(data, f"a.{form}", 8)
    assert len(back) == len(frames)
    assert max(error(a, b) for a, b in zip(frames, back, strict=True)) < 6
    assert error(frames[0], back[4]) > 6  # they move
    assert read_provenance(data) == document
    seconds = [shown for _, shown in frames_of(data, f"a.{form}")]
    assert sum(seconds) == pytest.approx(9 / 8, abs=0.05)


def test_an_odd_size_is_shown_whole() -> None:
    frames = moving(4, (33, 25))
    back = read_clip(encode_film(frames, "mp4", 8), "a.mp4", 8)
    assert back[0].size == (34, 26)
    assert error(frames[2], back[2].crop((0, 0, 33, 25))) < 6


def test_frames_as_many_a_second() -> None:
    def shown(seconds: list[float], fps: float) -> list[int]:
        images = [Image.new("RGB", (1, 1), (place, 0, 0)) for place in range(len(seconds))]
        return [image.getpixel((0, 0))[0] for image in at_rate(zip(images, seconds, strict=True), fps)]

    assert shown([0.125] * 4, 8) == [0, 1, 2, 3]
    assert shown([0.126] * 24, 8) == [*range(24)]  # within a tenth: a loop stays one
    assert shown([0.042] * 72, 7.94) == [*range(1, 72, 3)]  # the middle one of three
    assert shown([0.25, 0.25], 8) == [0, 0, 1, 1]
    assert shown([0.1, 0.4, 0.1, 0.2], 10) == [0, 1, 1, 1, 1, 2, 3, 3]  # a variable rate
    assert shown([0.01], 8) == []


def test_a_gif_is_as_long_as_the_clip() -> None:
    """It counts in hundredths of a second: at 8 a second frames last 12 and 13 of them in turns."""
    for fps, length in ((8, 2.0), (10, 1.6), (7.94, 16 / 7.94), (3, 16 / 3)):
        made = encode_clip(moving(16), "gif", fps)
        assert sum(seconds for _, seconds in clips.frames_of(made, "a.gif")) == pytest.approx(length, abs=0.006)
        assert len(read_clip(made, "a.gif", fps)) == 16


def test_a_picture_is_a_clip_of_one_frame() -> None:
    out = io.BytesIO()
    moving(1)[0].save(out, "PNG")
    assert [len(read_clip(out.getvalue(), "a.png", fps)) for fps in (8, 16, 30)] == [1, 1, 1]


def film_of(rotation: int = 0, sound: bool = False, times: list[int] | None = None) -> bytes:
    """An mp4 of an upright bar, as a phone would have it: turned by its header, with sound, at uneven times."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        voice = film.add_stream("aac", rate=44100) if sound else None
        for place, time in enumerate(times or [33 * index for index in range(12)]):
            image = Image.new("RGB", (64, 32), "white")
            image.paste((0, 0, 200), (0, 0, 64, 8))  # along the top
            image.paste((200, 0, 0), (0, 24, 4 * place + 4, 32))
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
        if voice is not None:
            silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            for plane in silence.planes:
                plane.update(bytes(plane.buffer_size))
            silence.sample_rate, silence.pts = 44100, 0
            film.mux(voice.encode(silence))
            film.mux(voice.encode())
    data = out.getvalue()
    if rotation:  # the display matrix of the track header: cos, sin and their kin as 16.16 numbers
        turned = {90: (0, 1, -1, 0), 270: (0, -1, 1, 0), 180: (-1, 0, 0, -1)}[rotation]
        place = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version, times and ids, reserved, layer to volume
        a, b, c, d = (value << 16 for value in turned)
        matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
        data = data[:place] + matrix + data[place + 36 :]
    return data


def test_a_phones_film_is_upright_whatever_it_carries() -> None:
    plain = read_clip(film_of(sound=True), "a.mp4", 30)
    assert (len(plain), plain[0].size) == (12, (64, 32))
    assert plain[0].getpixel((32, 3))[2] > 150 > plain[0].getpixel((32, 3))[0]
    for rotation, where in ((90, (28, 32)), (270, (3, 32)), (180, (32, 28))):
        turned = read_clip(film_of(rotation), "a.mov", 30)[0]
        assert turned.size == ((32, 64) if rotation != 180 else (64, 32))
        red, _, blue = turned.getpixel(where)
        assert blue > 150 > red, rotation


def test_uneven_times_are_seconds() -> None:
    times = [0, 100, 200, 600, 700]  # one frame is shown for .4 s
    back = read_clip(film_of(times=times), "a.mp4", 10)
    ends = [next((x for x in range(63, -1, -1) if image.getpixel((x, 28))[1] < 100), 0) for image in back]
    assert len(back) >= 8
    assert [round((end - 3) / 4) for end in ends[:8]] == [0, 1, 2, 2, 2, 2, 3, 4]


def test_what_is_no_clip_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, data in (("a.mp4", b"no film"), ("a.webm", b""), ("a.gif", b"GIF89a"), ("a.webp", b"RIFF")):
        with pytest.raises(InputError, match=name):
            read_clip(data, name, 8)
    whole = encode_film(moving(8), "mp4", 8)
    with pytest.raises(InputError, match=r"b\.mp4"):
        read_clip(whole[:200], "b.mp4", 8)
    assert film_comment(b"no film") == ""
    monkeypatch.setattr(clips, "films_ready", lambda: False)
    with pytest.raises(InputError, match=r"genctl\[video\]"):
        read_clip(whole, "b.mp4", 8)
    with pytest.raises(UsageError, match=r"genctl\[video\]"):
        encode_film(moving(2), "mp4", 8)


def test_a_film_is_known_by_its_bytes() -> None:
    film, animation = encode_film(moving(4), "mp4", 8), encode_clip(moving(4), "webp", 8)
    for data, name in (
        (film, "a.bin"),
        (film, "a.webp"),
        (animation, "a.mp4"),
        (encode_film(moving(4), "webm", 8), "a"),
    ):
        assert len(read_clip(data, name, 8)) == 4, name


def test_frames_are_made_small_as_they_come_and_only_so_many_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_TOGETHER", 500_000)
    large = encode_clip(moving(9, (400, 300)), "gif", 8)
    with pytest.raises(InputError, match=r"a.gif: 5 frames or more of 400x300"):
        read_clip(large, "a.gif", 8)
    lines: list[str] = []
    small = read_clip(large, "a.gif", 8, lambda image: image.resize((20, 10)), 7, lines.append)
    assert (len(small), small[0].size) == (7, (20, 10))
    assert lines == ["a.gif: its first 7 frames alone"]
    assert len(read_clip(large, "a.gif", 8, lambda image: image.resize((20, 10)), 9, lines.append)) == 9
    assert len(lines) == 1  # as many as there are: nothing is left out


def test_the_end_of_a_clip() -> None:
    data = encode_clip(moving(9), "png", 8)
    assert [image.tobytes() for image in last_frames(data, "a.png", 8, 3)] == [f.tobytes() for f in moving(9)[-3:]]
    assert len(last_frames(data, "a.png", 8, 20)) == 9


def test_more_frames_than_anyone_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MOST_STORED", 5)
    for form in ("gif", "mp4"):
        with pytest.raises(InputError, match="more than 5 frames"):
            read_clip(encode_clip(moving(9), form, 8), f"a.{form}", 8)


def test_a_frame_that_is_shown_for_ages_is_not_repeated_as_long() -> None:
    images = [Image.new("RGB", (1, 1), (place, 0, 0)) for place in range(3)]
    shown = at_rate(zip(images, [0.125, 4e6, 0.125], strict=True), 8, repeats=3)
    assert [image.getpixel((0, 0))[0] for image in shown] == [0, 1, 1, 1, 2]


def test_what_is_a_film_by_its_first_bytes() -> None:
    out = io.BytesIO()
    moving(1, (64, 64))[0].save(out, "AVIF")
    with pytest.raises(InputError, match=r"a.avif: (not an image|a damaged picture)"):
        read_picture(out.getvalue()[:200], "a.avif")
    assert not looks_like_film(b"\0\0\0\x1cftypmif2\0\0\0\0heicmif1")
    assert looks_like_film(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    assert looks_like_film(encode_film(moving(4), "webm", 8))


def test_a_frame_of_too_many_pixels_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    film = encode_film(moving(4), "mp4", 8)
    monkeypatch.setattr(clips, "MOST_PIXELS", 500)
    with pytest.raises(InputError, match="megapixels a frame"):
        read_clip(film, "a.mp4", 8)
