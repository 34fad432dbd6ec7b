"""What people have made, scored from the files in which others publish theirs."""
