"""Why this plan, what each limit is worth, and what would make a plan possible."""
