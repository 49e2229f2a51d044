"""The tasks of the package reasoning-gym: generators of questions, with verifiers of answers."""

from stratos.contrib.gym.gym_task import GymTask

__all__ = ["GymTask"]
