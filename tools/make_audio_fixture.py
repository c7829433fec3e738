"""Make the sound fixtures under nbs/fixtures/audio.

    pip install torch transformers
    python tools/make_audio_fixture.py                 # whisper_mel.npz: a chirp through WhisperFeatureExtractor
    python tools/make_audio_fixture.py --spoken A.wav  # spoken.wav: any WAV file, as 16 kHz mono 16 bit

whisper_mel.npz holds `frames`, which of the 3000 columns are kept, and `mel80` and `mel128` with those columns, float32.
The extractor has a float32 path in torch and a float64 path in NumPy; the kept values are those of the second, and the script
says how far the first is from them. What spoken.wav says and how it was made stands in spoken.txt.
"""
import sys
import wave
from pathlib import Path

import numpy as np

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))
folder = root / "nbs" / "fixtures" / "audio"


def chirp(n=19_201, rate=16_000):
    """The sound of the page: a tone that rises from 100 Hz to 7 kHz and fades, after a click."""
    t = np.arange(n) / rate
    x = np.sin(2 * np.pi * (100 * t + 0.5 * (7000 - 100) / t[-1] * t**2)) * np.exp(-2 * t) * 0.8
    x[3] += 0.2
    return x.astype(np.float32)


def make_mel() -> None:
    from transformers import WhisperFeatureExtractor

    from attnax.audio import log_mel_spectrogram

    frames = np.array([*range(6), *range(10, 116, 7), *range(117, 124), 1000, 2998, 2999])
    kept = {"frames": frames}
    for num_mels in (80, 128):
        extractor = WhisperFeatureExtractor(feature_size=num_mels)
        padded = np.pad(chirp(), (0, 480_000 - 19_201))
        exact = extractor._np_extract_fbank_features(padded[None], "cpu")[0]
        called = extractor(chirp(), sampling_rate=16_000, return_tensors="np").input_features[0]
        ours = log_mel_spectrogram(chirp(), num_mels=num_mels)
        print(f"{num_mels} mels: within {abs(ours - exact).max():.1e} of the NumPy path and {abs(ours - called).max():.1e} "
              f"of what the extractor returns; the two paths differ by {abs(exact - called).max():.1e}")
        kept[f"mel{num_mels}"] = exact[:, frames].astype(np.float32)
    np.savez_compressed(folder / "whisper_mel.npz", **kept)


def make_spoken(source: str) -> None:
    from attnax.audio import read_wav, resample

    samples = resample(*read_wav(source), 16_000)
    with wave.open(str(folder / "spoken.wav"), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(16_000)
        w.writeframes(np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes())
    print(f"{len(samples) / 16_000:.2f} s")


if __name__ == "__main__":
    folder.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:2] == ["--spoken"] and len(sys.argv) == 3: make_spoken(sys.argv[2])
    elif len(sys.argv) == 1: make_mel()
    else: sys.exit(__doc__)
