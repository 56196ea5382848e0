"""The base: its language, its encoders and UNet, and how its words act."""
