"""A Ray cluster: its nodes as offers, its jobs as an executor, its workers for chunks of work."""
