"""The command line: composed, built into a `Config`, checked as a whole, explained if it fails."""
