"""The pictures of the gallery."""
