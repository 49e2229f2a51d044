"""The student as a bundle that any tool of the ecosystem loads, served and load-tested."""

from stratos.deploy.stage import deploy

__all__ = ["deploy"]
