"""Tasks: questions with checkable answers."""
