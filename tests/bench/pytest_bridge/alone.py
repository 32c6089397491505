"""The environment of a pytest that is no part of the one running."""

import os


def alone_environment() -> dict[str, str]:
    """Without plugins of its own accord, and knowing nothing of the session around it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**own, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
