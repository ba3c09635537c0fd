"""The ops: batched over clients, usable without fedlps."""
