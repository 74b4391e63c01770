"""The command line: configs composed by Hydra out of presets and typed keys. Edit compose.py for how keys are set,
entry.py for how a command starts and ends, run_command.py for what run.py takes, help_text.py for what every --help
shares, places.py for where a command may write."""
