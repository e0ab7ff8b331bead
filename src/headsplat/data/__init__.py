"""Reading and writing pictures, video and the data sets of the field."""
