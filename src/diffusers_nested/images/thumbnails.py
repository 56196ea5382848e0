"""Parts of contact sheets: small pictures and the lines of their labels."""

from PIL import Image, ImageFont, ImageOps


def thumbnail(picture: Image.Image, side: int) -> Image.Image:
    """Fit a picture into a square: small ones are enlarged pixel by pixel, large ones reduced smoothly."""
    enlarged = max(picture.size) < side
    method = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return ImageOps.pad(picture, (side, side), method, color=(238, 238, 240))


def wrapped(text: str, width: int) -> str:
    """Break a text into lines of at most this width in pixels, in the font of labels."""
    font, lines = ImageFont.load_default(13), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
