"""Upper bounds for what files may ask for: far above SDXL models (their values in brackets), yet safe to compute."""

# Files
MAX_CONFIG_BYTES = 2**20  # a config.json (5000)
MAX_HEADER_BYTES = 4 * 2**20  # the header of a safetensors file (40,000)
MAX_INDEX_BYTES = 4 * 2**20  # a list of shards, with a line per tensor (some hundred)
MAX_SHARDS = 1000

# An adapter
MAX_WIDTH = 16_384  # of any layer or embedding (2048, 3072)
MAX_QUERIES = 8192  # N, the number of subject tokens (256, 1024)
MAX_LAYERS = 1024  # of the UNet (70)
MAX_BLOCKS = 128  # of the Q-Former or the vision tower (6, 32)
MAX_HEADS = 256  # of either (12, 16)
MAX_PARAMETERS = 4 * 10**9  # in all (0.4 · 10⁹ with 1024 tokens), 16 GB in float32
MAX_ALPHA = 1000.0  # (2; the miniature's first base: 12)
MAX_TEXT = 256  # characters of a word, a layer's path or a repository's name

# Computation: even a small file can ask for a lot of it
MAX_ATTENTION = 2**29  # heads · tokens² of one block (12 heads, 1024 tokens: 2²³; 32 heads, 4096 tokens: 2²⁹)
MAX_TOWERS = 4  # that an adapter reads (1)
MAX_PATCHES = 4096  # of one picture in a vision tower (256; ViT-bigG at 448 pixels: 1024)
MAX_SIDE = 2048  # pixels per side of a tower's input, and of the shorter side before cropping (224 to 448)
MAX_RESIZED_PIXELS = 2**26  # of a photo after its shorter side has been resized for the tower
MAX_MAGNITUDE = 1e6  # of a subject's keys and values (10; float16 reaches 65504), so that attention stays finite
