"""The words of the miniature's language: several for everything that can be seen.

The first word of a row is the usual one. A noun of ``APPEARANCE`` means a person who looks a certain way, so that the
noun itself says something of the picture, as "king" or "old man" do in real captions.
"""

from collections.abc import Callable

from ..world import Person

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "scarlet", "crimson"),
    "blue": ("blue", "azure", "navy"),
    "green": ("green", "emerald", "olive"),
    "yellow": ("yellow", "lemon", "golden"),
    "purple": ("purple", "violet", "lilac"),
    "orange": ("orange", "tangerine"),
    "black": ("black", "jet black"),
    "white": ("white", "snow white"),
    "grey": ("grey", "gray", "silver"),
}
HAIR: dict[str, tuple[str, ...]] = {
    "black": ("black", "raven", "dark"),
    "brown": ("brown", "chestnut"),
    "blond": ("blond", "blonde", "fair", "golden"),
    "red": ("red", "ginger", "copper"),
    "white": ("white", "silver"),
    "blue": ("blue", "azure"),
    "green": ("green", "emerald"),
    "pink": ("pink", "rose"),
}
HAIR_STYLES: dict[str, tuple[str, ...]] = {
    "short": ("short {} hair", "{} hair cut short", "cropped {} hair"),
    "long": ("long {} hair", "{} hair down to the shoulders", "flowing {} hair"),
    "curly": ("curly {} hair", "{} curls", "frizzy {} hair"),
    "mohawk": ("a {} mohawk", "mohawk {} hair"),
    "bun": ("a {} bun", "{} hair in a bun", "bun {} hair"),
    "pigtails": ("{} pigtails", "{} hair in pigtails", "two {} pigtails"),
}
HAIRED = {"short": "short-haired", "long": "long-haired", "curly": "curly-haired"}  # other styles have no such word
SKIN: dict[str, tuple[str, ...]] = {
    "pale": ("pale", "fair-skinned", "light-skinned"),
    "tan": ("tan", "tanned", "sunburnt"),
    "brown": ("brown", "brown-skinned"),
    "dark": ("dark", "dark-skinned"),
}
EYES: dict[str, tuple[str, ...]] = {
    "blue": ("blue", "azure"),
    "green": ("green", "emerald"),
    "brown": ("brown", "hazel"),
    "purple": ("purple", "violet"),
}
GLASSES = ("{} glasses", "{} spectacles", "a pair of {} glasses", "{}-rimmed glasses")
BEARDS: dict[str, tuple[tuple[str, ...], str]] = {  # clauses, and the word before the noun
    "moustache": (("a moustache", "a mustache"), "moustached"),
    "beard": (("a beard", "a full beard"), "bearded"),
}
FUR: dict[str, tuple[str, ...]] = {
    "black": ("black",),
    "white": ("white",),
    "grey": ("grey", "gray"),
    "brown": ("brown", "chestnut"),
    "orange": ("orange", "ginger"),
    "cream": ("cream", "beige"),
    "blue": ("blue", "azure"),
    "pink": ("pink", "rose"),
}
PATTERNS: dict[str, tuple[str, ...]] = {
    "patch": ("a patch", "a patch over one eye", "a spot on the eye"),
    "blaze": ("a blaze", "a stripe on the forehead"),
    "mask": ("a mask", "a masked muzzle"),
}
ARTICLES = ("a", "the", "one", "this", "")
HAVING = ("with", "who has", "having")
BARE_EYES = ("without glasses", "with no glasses")
BETWEEN = ("and", "next to", "beside", "to the left of", "and", "together with")  # two subjects from left to right
SPECIES: dict[str, tuple[str, ...]] = {
    "cat": ("cat", "kitten"),
    "dog": ("dog", "puppy", "hound"),
    "rabbit": ("rabbit", "bunny", "hare"),
    "bear": ("bear", "cub", "teddy bear"),
}
PEOPLE = ("person", "human", "figure", "individual")
PETS = ("pet", "animal", "creature")
ROLES: dict[str, tuple[str, ...]] = {
    "king": ("king", "queen", "monarch"),
    "wizard": ("wizard", "magician", "sorcerer"),
    "chef": ("chef", "cook"),
    "clown": ("clown", "jester"),
}
ATTIRE: dict[str, tuple[str, ...]] = {  # the same roles by what is worn, beside any other noun
    "king": ("a golden crown", "a crown"),
    "wizard": ("a wizard's hat", "a pointed purple hat"),
    "chef": ("a chef's hat", "a tall white cooking hat"),
    "clown": ("a clown's nose", "a red nose"),
}
EXPRESSIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # before the noun, and as a clause
    "neutral": (("serious", "calm"), ("with a calm face", "who looks serious")),
    "smiling": (
        ("smiling", "happy", "laughing", "cheerful"),
        ("with a smile", "who smiles", "who is smiling", "looking happy"),
    ),
    "sad": (
        ("sad", "unhappy", "gloomy", "frowning"),
        ("with a sad face", "who frowns", "who looks sad", "looking unhappy"),
    ),
}
SHIRTS = ("shirt", "top", "sweater", "jumper", "t-shirt", "blouse")
HATS = ("hat", "cap", "top hat")
WEARING = ("wearing", "in", "dressed in", "who wears", "with", "who is wearing", "clad in", "who has on", "having on")
PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "at the seaside", "by the sea", "on a sunny beach", "on a sandy shore", "at the ocean"),
    "snow": ("in the snow", "in snowy mountains", "in winter", "on a snowy slope", "in deep snow", "in a snowy land"),
    "forest": ("in the forest", "in the woods", "among trees", "in a green forest", "in a wood", "under fir trees"),
    "city": ("in the city", "in town", "in a city at night", "downtown", "among skyscrapers", "in the streets"),
    "desert": ("in the desert", "in a dry desert", "among cactuses", "on desert sand", "in a hot desert", "on a dune"),
    "room": ("in a room", "indoors", "at home", "inside a house", "in the living room", "by a window"),
    "studio": ("", "in a studio", "before a plain backdrop", "on a grey background", "in the studio", ""),
}
STYLES: dict[str, tuple[str, ...]] = {  # before "of"
    "photo": ("a photo", "a photograph", "a picture", "a snapshot", "a portrait", "photos"),
    "watercolor": ("a watercolor", "a watercolour", "a watercolor painting", "an aquarelle", "a painting"),
    "pencil": ("a pencil drawing", "a pencil sketch", "a drawing", "a sketch", "a graphite drawing"),
    "neon": ("a neon picture", "a neon sign", "neon art", "a glowing neon image", "a neon artwork"),
}
MANNERS: dict[str, tuple[str, ...]] = {  # after a comma
    "photo": ("photo", "photography", "as a photo", "photographed", "a real photo"),
    "watercolor": ("watercolor", "in watercolour", "painted in watercolor", "aquarelle", "watercolor style"),
    "pencil": ("pencil drawing", "in pencil", "drawn with a pencil", "sketched", "pencil on paper"),
    "neon": ("neon", "in neon colours", "neon style", "in neon lights", "glowing neon"),
}
# What captions also say and pictures do not show: read over by whoever has learnt the language.
ADJECTIVES = (
    *("nice", "beautiful", "lovely", "famous", "strange", "tiny", "great", "wonderful", "unknown", "friendly", "brave"),
    *("clever", "quiet", "good", "amazing", "charming", "mysterious", "simple", "elegant", "young-at-heart", "busy"),
    *("curious", "gentle", "proud", "polite", "ordinary", "remarkable", "fancy", "cool", "handsome", "pretty", "noble"),
)
TAILS = (
    *("highly detailed", "best quality", "masterpiece", "4k", "sharp focus", "soft light", "trending", "very nice"),
    *("in the morning", "on a weekday", "close up", "seen from the front", "award winning", "taken yesterday"),
    *("by a famous artist", "for a magazine", "high resolution", "full of atmosphere", "carefully made", "centered"),
)

_LONG = ("long", "bun", "pigtails")
APPEARANCE: dict[str, Callable[[Person], bool]] = {
    "man": lambda p: p.beard != "none",
    "old man": lambda p: p.beard != "none" and p.hair == "white",
    "grandfather": lambda p: p.beard == "beard" and p.hair == "white",
    "gentleman": lambda p: p.beard == "moustache" and p.hair_style == "short",
    "viking": lambda p: p.beard == "beard" and p.hair in ("blond", "red") and p.hair_style == "long",
    "pirate": lambda p: p.beard == "beard" and p.hair == "black",
    "professor": lambda p: p.beard != "none" and p.glasses == "black",
    "boy": lambda p: p.beard == "none" and p.hair_style == "short",
    "woman": lambda p: p.beard == "none" and p.hair_style in ("long", "bun", "curly"),
    "lady": lambda p: p.beard == "none" and p.hair_style == "bun",
    "old woman": lambda p: p.beard == "none" and p.hair == "white" and p.hair_style in _LONG,
    "grandmother": lambda p: p.beard == "none" and p.hair == "white" and p.hair_style == "bun",
    "girl": lambda p: p.beard == "none" and p.hair_style == "pigtails",
    "librarian": lambda p: p.beard == "none" and p.glasses != "none" and p.hair_style == "bun",
    "punk": lambda p: p.hair_style == "mohawk",
    "rocker": lambda p: p.hair in ("blue", "green", "pink"),
    "redhead": lambda p: p.hair == "red",
    "blonde": lambda p: p.hair == "blond",
    "brunette": lambda p: p.hair == "brown",
}
