"""A cascade: the student answers, and what it is unsure of goes to the teacher."""
