"""The command line: one thin module a command; parsing, progress and exit codes, no logic."""
