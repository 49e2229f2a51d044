"""What the room adds: a front of a hosted student."""

from stratos.core.extensions import Extension

EXTENSION = Extension(front="stratos.contrib.door.front:DoorFront")
