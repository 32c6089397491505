"""pytest-benchmark: a fixture that times a point, and its JSON in and out of histories."""
