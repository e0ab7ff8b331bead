"""The layouts in which the field stores tracked recordings: readers, writers and a check."""
