"""Joins two GIFs side by side, each with a caption above it: the README's before-after.gif.

    python3 -m venv venv && venv/bin/pip install pillow
    venv/bin/python tools/docs/side_by_side.py runs/demo/before.gif runs/demo/after.gif docs/images/before-after.gif

The shorter one stops at its last frame.
"""

import argparse

from PIL import Image, ImageDraw, ImageFont, ImageSequence

CAPTION_HEIGHT = 28
GAP = 12
FONT_SIZE = 16


def frames(path):
    """A GIF's frames and the milliseconds of each."""
    with Image.open(path) as image:
        read = [(frame.convert("RGB"), frame.info.get("duration", 50)) for frame in ImageSequence.Iterator(image)]
    return [frame for frame, _ in read], [duration for _, duration in read]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("left")
    parser.add_argument("right")
    parser.add_argument("out")
    parser.add_argument("--captions", nargs=2, default=["before", "after"])
    parser.add_argument("--width", type=int, default=240, help="pixels of each picture")
    parser.add_argument("--every", type=int, default=1, help="keep each n-th frame")
    args = parser.parse_args()

    (left, left_durations), (right, right_durations) = frames(args.left), frames(args.right)
    durations = max(left_durations, right_durations, key=len)
    sides = [[frame.resize((args.width, frame.height * args.width // frame.width)) for frame in side]
             for side in (left, right)]
    height = CAPTION_HEIGHT + max(side[0].height for side in sides)
    font = ImageFont.load_default(FONT_SIZE)

    joined = []
    for index in range(0, len(durations), args.every):
        canvas = Image.new("RGB", (2 * args.width + GAP, height), "white")
        draw = ImageDraw.Draw(canvas)
        for place, (side, caption) in enumerate(zip(sides, args.captions)):
            x = place * (args.width + GAP)
            canvas.paste(side[min(index, len(side) - 1)], (x, CAPTION_HEIGHT))
            draw.text((x + args.width / 2, CAPTION_HEIGHT / 2), caption, fill="black", font=font, anchor="mm")
        joined.append(canvas.quantize(64))
    joined[0].save(args.out, save_all=True, append_images=joined[1:], loop=0,
                   duration=[sum(durations[i:i + args.every]) for i in range(0, len(durations), args.every)])


if __name__ == "__main__":
    main()
