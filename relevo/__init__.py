"""relevo: roll a new version of a scikit-learn model out to all its users, on a decision that can be trusted."""

__all__ = ["__version__"]

__version__ = "0.1.0"
