"""Getting and giving models: published ones, files, folders; what is installed where."""
