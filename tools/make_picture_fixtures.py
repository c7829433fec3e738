"""What transformers' processors make of a picture, with Pillow's resizing: nbs/fixtures/pictures.npz.

Run in an environment with transformers and Pillow 12, from the top of the repository: python tools/make_picture_fixtures.py
Pillow 13 does rows before columns where it takes that to be quicker, and rounds in between as ever.
"""
import json
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import BitImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil, ViTImageProcessorPil

out = Path(__file__).resolve().parent.parent / "nbs" / "fixtures" / "pictures.npz"


def picture(rng, height: int, width: int) -> np.ndarray:
    """Slopes, edges and noise."""
    y, x = np.mgrid[:height, :width] / (height, width)[0]
    smooth = np.stack([x, y, (x * 7 % 1 > 0.5) * 1.0], -1) * 200
    return (smooth + rng.integers(0, 55, smooth.shape)).astype(np.uint8)


def main() -> None:
    image = picture(np.random.default_rng(0), 45, 61)
    both = lambda height, width: {"height": height, "width": width}
    processors = dict(
        clip=CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size=both(16, 16)),
        clip_larger=CLIPImageProcessorPil(size={"shortest_edge": 50}, crop_size=both(52, 40)),
        siglip=SiglipImageProcessorPil(size=both(24, 24)), vit=ViTImageProcessorPil(size=both(20, 24)),
        dinov2=BitImageProcessorPil(size={"shortest_edge": 26}, crop_size=both(24, 24)),
        lanczos=ViTImageProcessorPil(size=both(18, 70), resample=1),
        box=ViTImageProcessorPil(size=both(30, 33), resample=4, do_normalize=False),
        nearest=ViTImageProcessorPil(size=both(33, 30), resample=0, do_rescale=False, do_normalize=False),
        whole=ViTImageProcessorPil(do_resize=False, do_rescale=True))
    found = {"image": image}
    for name, processor in processors.items():
        found[f"{name}/said"] = np.array(json.dumps(json.loads(processor.to_json_string())))
        found[name] = processor(image, return_tensors="np")["pixel_values"][0].astype(np.float32)
    for number, name in enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box")):
        found[f"resized/{name}"] = np.asarray(Image.fromarray(image).resize((25, 90), resample=number))
    np.savez_compressed(out, **found)
    print({n: x.shape for n, x in found.items()}, out.stat().st_size)


main()
