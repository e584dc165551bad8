"""Makes the pictures of docs/tour.md small enough for the repository; `make tour` calls it after the tests in a browser."""

import sys
from pathlib import Path

from PIL import Image

COLOURS = 48  # a page of Dagster's takes 30 to 50 kB then; with fewer pixels it would take more, as letters get grey edges


def shrink(picture: Path, target: Path) -> int:
    """Write a screenshot with fewer colours, and return its size in bytes."""
    with Image.open(picture) as image:
        few = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(target, optimize=True)
    return target.stat().st_size


def main(source: Path, target: Path) -> None:
    """Replace the pictures in a folder by those of another one."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.png"):
        old.unlink()
    for picture in sorted(source.glob("*.png")):
        size = shrink(picture, target / picture.name)
        sys.stdout.write(f"{target / picture.name}: {size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
