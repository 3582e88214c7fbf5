"""What can be typed. Each command: options in command.py, the work in run.py, tables in view.py."""
