"""What files may ask for: far above what models for SDXL have (in brackets), and below what a machine cannot bear."""

# Files
MAX_CONFIG_BYTES = 2**20  # a config.json (5000)
MAX_HEADER_BYTES = 4 * 2**20  # the header of a safetensors file (40,000)
MAX_INDEX_BYTES = 4 * 2**20  # a list of shards, with a line per tensor (some hundred)
MAX_SHARDS = 1000

# An adapter
MAX_WIDTH = 16_384  # of everything that is a width (2048, 3072)
MAX_QUERIES = 8192  # N, the number of subject tokens (256, 1024)
MAX_LAYERS = 1024  # of the UNet (70)
MAX_BLOCKS = 128  # of the Q-Former or the vision tower (6, 32)
MAX_HEADS = 256  # of either (12, 16)
MAX_PARAMETERS = 4 * 10**9  # in all (0.4 · 10⁹ with 1024 tokens), 16 GB in float32
MAX_ALPHA = 1000.0  # (2; the miniature: 12)
MAX_TEXT = 256  # characters of a word, a layer's path or a repository's name

# What is computed: a small file can ask for much of it
MAX_ATTENTION = 2**29  # heads · tokens² of one block (1024 tokens of 12 heads: 2²³; 4096 of 32: all of it)
MAX_PATCHES = 4096  # that a vision tower cuts a picture into (256; ViT-bigG at 448 pixels: 1024)
MAX_SIDE = 2048  # pixels of the picture that a tower sees, and of the shorter side before it is cropped (224 to 448)
MAX_RESIZED_PIXELS = 2**26  # of a photo whose shorter side has been made what the tower asks for
MAX_MAGNITUDE = 1e6  # of a key or value of a subject (10; float16 reaches 65504): the attention's sums stay finite
