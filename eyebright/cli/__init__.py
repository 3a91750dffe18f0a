"""The command line: one file a command, each as thin as it can be."""
