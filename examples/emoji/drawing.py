"""A picture's bytes as pixels: rendered with its transparency, put on white, written as lossless WebP."""

from __future__ import annotations

import io

from PIL import Image

SCALES = {
    "twemoji": 0.9,
    "noto-old": 0.95,
    "emojitwo": 0.92,
    "firefox": 0.92,
}  # drawn to the edge; they get the others' margin


def draw(style: str, data: bytes, pixels: int) -> Image.Image:
    """One picture as RGBA, `pixels` square, transparent around. `modern` is drawn double and halved: its shadow filters
    threshold alpha and would be jagged."""
    inner = round(pixels * SCALES.get(style, 1))
    image = Image.open(io.BytesIO(data)) if style == "3d" else rendered(data, 2 * inner if style == "modern" else inner)
    image = image.convert("RGBA")
    scale = inner / max(image.size)
    if scale != 1:  # premultiplied by Pillow for RGBA, so edges do not darken
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (pixels, pixels), (255, 255, 255, 0))
    canvas.paste(image, ((pixels - image.width) // 2, (pixels - image.height) // 2))
    return canvas


def rendered(data: bytes, pixels: int) -> Image.Image:
    """An SVG, its longer side `pixels` long."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=data.decode(), width=pixels, height=pixels, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png)))


def on_white(image: Image.Image) -> Image.Image:
    """RGBA put on white, as RGB."""
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    return canvas.convert("RGB")


def encoded(image: Image.Image) -> bytes:
    """RGB as lossless WebP bytes."""
    out = io.BytesIO()
    image.save(out, "WEBP", lossless=True, quality=60, method=3)
    return out.getvalue()
