"""Tests of the parts a method is made of."""
