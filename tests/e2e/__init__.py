"""Tests on a real cluster (`make e2e`)."""
