"""Where a word is, by the attention that it gets: what m of the mechanism "located" was chosen by."""
