"""What tools/prepare_data.py runs: a module for each command, made once before training.

A command has ``add_arguments(parser)`` and ``run(arguments)``.
"""
