"""A page on which a hosted student is tried: a question, its answer as it comes, and a check."""
