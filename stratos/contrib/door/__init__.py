"""`stratos door`: let others reach a hosted student, with keys and limits, by nginx."""
