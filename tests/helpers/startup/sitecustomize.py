"""Run by every Python process that a test starts, since the tests put this folder into ``PYTHONPATH``."""

import torchvision_operators  # noqa: F401, imported for what it declares
