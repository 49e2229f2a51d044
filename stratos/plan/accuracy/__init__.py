"""How accurate a student is expected to be: by runs and pilots, or said to be unknown."""
