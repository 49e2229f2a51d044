"""The command line: compose the config, build a typed `Config`, check it, explain errors."""
