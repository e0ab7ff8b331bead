"""The methods that make avatars, one folder each; none knows another."""
