"""The command line: `hnet-lm COMMAND`, one file a command, of which only the one that runs is imported."""
