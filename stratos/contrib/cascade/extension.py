"""What the room adds: a config group, the stage that comes with `deploy`, a front of a server."""

from stratos.core.extensions import Extension

EXTENSION = Extension(
    config={"cascade": "stratos.contrib.cascade.config:CascadeConfig"},
    stages="stratos.contrib.cascade.stages:STAGES",
    front="stratos.contrib.cascade.front:CascadeFront",
)
