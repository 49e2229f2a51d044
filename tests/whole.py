"""What `make test-all` leaves out because it takes long, and `make attack` runs."""

import os

import pytest

IS_WHOLE = os.environ.get("STRATOS_ATTACK") == "whole"
WHOLE = pytest.mark.skipif(not IS_WHOLE, reason="takes long: make attack runs it")
