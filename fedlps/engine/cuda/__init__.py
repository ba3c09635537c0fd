"""The executor for GPUs: all clients of a cohort in every launch, whatever their sizes."""
