"""Train, measure and package the embedded model."""
