"""The example project: trains a classifier on a data set that ships with scikit-learn, and packages it for relevo."""
