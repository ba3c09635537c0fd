"""The parts a method is made of."""
