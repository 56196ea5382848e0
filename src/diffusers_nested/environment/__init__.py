"""The environment of the package: installed versions, later imports, and other processes."""
