"""Package the student as a bundle, serve it and load-test it."""

from stratos.deploy.stage import deploy

__all__ = ["deploy"]
