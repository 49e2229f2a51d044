"""Package the student as a bundle, serve it and load-test it.

The stage is `stratos.deploy.stage.deploy`: importing the package loads nothing, since a config
names its serving engines.
"""
