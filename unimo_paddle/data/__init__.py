"""Data: from files to batches of NumPy arrays. This room knows files, NumPy, OpenCV and tokens."""
