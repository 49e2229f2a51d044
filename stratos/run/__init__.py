"""Run the stages in order: resume, show, track and record."""
