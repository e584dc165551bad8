"""The backend: imports Keras and TensorFlow, and seeds them."""

import os
import sys
from typing import Any


def seed(number: int) -> None:
    """Seed everything random in this process and, without a GPU, allow only operations that give the same bits every time.

    That took no CPU time that could be measured, and the training graph gave the same bits without it; it is for layers of
    people's own. Bits still depend on the number of cores that TensorFlow uses. On a GPU some operations would be refused.
    """
    keras = import_keras()
    import tensorflow as tf

    keras.utils.set_random_seed(number)
    if not tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()


def import_keras() -> Any:
    """Import Keras without the chatter that TensorFlow prints on standard error at its first import and first operation.

    TensorFlow 2.21 prints these lines whatever TF_CPP_MIN_LOG_LEVEL says. An import that fails still raises.
    """
    if "keras" not in sys.modules:
        sys.stderr.flush()
        stderr = os.dup(2)
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a file descriptor is needed
            os.dup2(nowhere.fileno(), 2)
        try:
            import tensorflow as tf

            tf.constant(0.0)
            # every run traces graphs of its own, which TensorFlow would warn of
            tf.get_logger().setLevel("ERROR")
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    import keras

    return keras
