"""Rebuilds the peer: Google's MobileNetV2 1.0 224, classifier of 1001 classes, converted to INT8 TFLite.

The weights are random, since they don't matter for the time. Needs the train extra; everything else here does not.

    python tests/bench/make_peer.py PEER.tflite
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

SIDE = 224
CLASSES = 1001


def calibration_images(count: int = 32) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Smooth random pictures in -1..1: the ranges of the activations need only be sane."""
    random = np.random.default_rng(0)
    for _ in range(count):
        coarse = random.uniform(-1, 1, (1, SIDE // 32, SIDE // 32, 3)).astype(np.float32)
        yield [coarse.repeat(32, axis=1).repeat(32, axis=2)]


def main() -> None:
    """Build, convert and write the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args().file
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    network = keras.applications.MobileNetV2((SIDE, SIDE, 3), alpha=1.0, weights=None, classes=CLASSES)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = calibration_images
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(converter.convert())
    print(f"{file}: {file.stat().st_size} bytes, {network.count_params()} parameters")


if __name__ == "__main__":
    main()
