"""The command line: `hnet-lm COMMAND`, one file per command. Only the command that runs is imported."""
