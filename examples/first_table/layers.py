"""Names the layers that `experiment.json` may stack: a name, and a function that makes a fresh layer."""

from keras.layers import Dense

LAYERS = {}
LAYERS["D8"] = lambda: Dense(8, activation="relu")
LAYERS["D16"] = lambda: Dense(16, activation="relu")
LAYERS["D32"] = lambda: Dense(32, activation="relu")
