"""What a run is told (configuration) and what it leaves behind (the files of a run)."""
