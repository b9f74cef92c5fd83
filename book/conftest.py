"""The notebooks are compared under the conditions under which they were executed and stored."""

import os

from execute_notebooks import ENVIRONMENT

os.environ.update(ENVIRONMENT)
os.environ.pop("COLAB_RELEASE_TAG", None)
