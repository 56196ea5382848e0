"""What the package finds around it: installed versions, imports to come, and other processes."""
