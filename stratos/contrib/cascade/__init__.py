"""A cascade: the student answers, and what it is unsure of goes to the teacher."""

from stratos.contrib.cascade.stage import cascade

__all__ = ["cascade"]
