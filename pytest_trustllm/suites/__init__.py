"""Suite files and data sets to tasks and samples."""
