"""The tasks of the package reasoning-gym: generators of questions, with verifiers of answers."""

from stratos.contrib.gym.generated import GymTask

__all__ = ["GymTask"]
