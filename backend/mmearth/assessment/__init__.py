"""How right a map is, and how much there is of each class: samples and their estimators."""
