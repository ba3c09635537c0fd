"""Dense tensors of clients into arenas, and back."""
