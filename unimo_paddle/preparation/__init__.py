"""What tools/prepare_data.py does with data before a run: a module for each of its commands."""
