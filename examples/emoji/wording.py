"""Captions beside the plain label: with an article, its kind, a tag, its colours, its style; and the words of pairs.

Labels are CLDR short names, so grammar is by rule with lists of what breaks it: what is doubtful gets no article and no
plural. People are called by no colour: it would be their skin's.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import colours

KINDS = {  # the beginning of a subgroup's name -> the word before the colon; the longest that fits
    "face": "smiley", "cat-face": "smiley", "monkey-face": "smiley", "heart": "heart", "emotion": "symbol",
    "hand": "hand", "body": "body part", "person": "person", "family": "family", "person-symbol": "symbol",
    "animal": "animal", "animal-bird": "bird", "animal-marine": "sea animal", "animal-bug": "bug",
    "animal-reptile": "reptile", "plant": "plant", "plant-flower": "flower", "food": "food", "food-fruit": "fruit",
    "food-vegetable": "vegetable", "food-sweet": "sweet food", "drink": "drink", "dishware": "tableware",
    "place": "place", "place-map": "map", "transport": "transport", "hotel": "travel",
    "time": "time",
    "sky": "sky and weather", "event": "celebration", "award": "award", "sport": "sport", "game": "game",
    "arts": "craft", "clothing": "clothing", "sound": "sound", "music": "music", "phone": "phone",
    "musical-instrument": "musical instrument", "computer": "computer", "light": "light", "book": "paper",
    "money": "money", "mail": "mail", "writing": "writing", "office": "office", "lock": "lock", "tool": "tool",
    "science": "science", "medical": "medicine", "household": "household", "other-object": "object",
    "transport-sign": "sign", "warning": "warning sign", "arrow": "arrow", "religion": "religious symbol",
    "zodiac": "zodiac sign", "av": "button", "keycap": "key",
}  # fmt: skip
# the last word of what is not counted, or is no noun
NO_ARTICLE = """
    bread bacon popcorn butter salt food cooking spaghetti rice oden sushi dango cream ice candy sake mate
    garlic broccoli liquid tea coral root fuji wood rail construction fog foggy fire lightning voltage tennis
    bowling pong badminton lacrosse hockey football thread yarn money dna soap poker biking dizzy away laughing
    star-struck camping way tower liberty done oclock thirty locked unlocked volume shell claus judaism vomiting
    exhaling zzz pointing shaking polo handball juggling wrestling cartwheeling bed polish corn beer yin yang om
    milk paper bone dusk rolling horizontally vertically meat luggage arts departure arrival golfing swimming
    green metal hair"""
SINGULAR = {"rhinoceros", "compass", "glass", "dress", "cactus", "octopus", "lotus", "hibiscus", "bus", "trolleybus",
            "minibus", "cross", "hippopotamus", "chess", "walrus"}  # fmt: skip
NOUNS = ("face", "cat-face", "monkey-face", "heart", "animal", "plant", "food", "drink", "dishware", "place",
         "transport-ground", "transport-water", "transport-air", "hotel", "sky", "event", "award", "sport", "game",
         "arts", "clothing", "sound", "music", "musical-instrument", "time", "phone", "computer", "light", "book",
         "money", "mail", "writing",
         "office", "lock", "tool", "science", "medical", "household", "other-object")  # fmt: skip
PLURALS = {"mouse": "mice", "snowman": "snowmen", "foot": "feet", "tornado": "tornadoes", "mosquito": "mosquitoes",
           "goose": "geese", "ox": "oxen", "leaf": "leaves", "wolf": "wolves", "knife": "knives",
           "scarf": "scarves", "fish": "fish", "deer": "deer", "moose": "moose", "bison": "bison", "sheep": "sheep",
           "shrimp": "shrimp", "squid": "squid", "fly": "flies", "buffalo": "buffaloes", "tomato": "tomatoes",
           "potato": "potatoes", "mango": "mangoes", "volcano": "volcanoes", "blowfish": "blowfish", "die": "dice",
           "jellyfish": "jellyfish", "goldfish": "goldfish", "aircraft": "aircraft", "dodo": "dodos"}  # fmt: skip
PARTS = re.compile(
    r" (?:with|without|in|on|of|and|showing|from|behind|over|under|at|holding|for|to|or|tilted|facing) "
    r"| (?:in|de)creasing"
)
WORDS = re.compile(r"[a-z]+")
ONE_WAY = re.compile(  # what is read, what turns, and what is said to be on one side
    r"left|right|clock|oclock|thirty|arrow|button|letter|number|symbol|sign|label|calendar|abacus|keyboard|cent\b|dollar"
    r"|euro|pound|yen\b|banknote|question|exclamation|hundred|west|east|newspaper|book\b|receipt|ruler|atm\b|map|globe"
    r"|ticket|tape|cyclone|crescent|quarter|gibbous|musical|note|guitar|violin|saxophone|stop|taxi|police|ambulance|bank\b"
    r"|hospital|hotel|post|office|store|school|jack|mahjong|card|dice|die\b|slot|zzz|vs\b|abc|ear\b|e-mail|mailbox|pencil|pen\b"
)


def kind_of(subgroup: str) -> str:
    """What a subgroup's things are: `animal-mammal` -> `animal`; nothing where no word fits."""
    fits = [start for start in KINDS if subgroup == start or subgroup.startswith(start + "-")]
    return KINDS[max(fits, key=len)] if fits else ""


def head(label: str) -> str:
    """The noun that a label is about: `mouse` of `computer mouse`, `ear` of `ear of corn`."""
    return PARTS.split(label, maxsplit=1)[0].rsplit(" ", 1)[-1]


def countable(label: str, subgroup: str) -> bool:
    """Whether the label surely takes `a` or `an`: a noun, in the singular, of something that is counted."""
    noun = head(label).lower().replace("’", "")
    plain = not re.search(r"[:(“!.#*]|’c|-thirty|^\d|^[A-Z]{2}", label)
    alone = noun in SINGULAR or not noun.endswith("s")
    return plain and alone and noun not in NO_ARTICLE.split() and any(
        subgroup == name or subgroup.startswith(name + "-") for name in NOUNS
    )  # fmt: skip


def with_article(label: str) -> str:
    """`a cat`, `an owl`."""
    sounds = (label[0].lower() in "aeiou" and not re.match(r"uni|eu|ew|one|uku|us", label.lower())) or label == "x-ray"
    return f"{'an' if sounds else 'a'} {label}"


def plural(label: str) -> str:
    """`red apple` -> `red apples`; of labels that are `countable` and have no `with` or `of`."""
    *before, noun = label.split(" ")
    if noun in PLURALS:
        many = PLURALS[noun]
    elif re.search(r"(s|x|z|ch|sh)$", noun):
        many = noun + "es"
    elif re.search(r"[^aeiou]y$", noun):
        many = noun[:-1] + "ies"
    else:
        many = noun + "s"
    return " ".join([*before, many])


def flips(row: dict[str, Any], subgroup: str) -> bool:
    """Whether a mirrored picture shows the same thing: none that is read or turns, and none whose captions say left or
    right."""
    read = row["group"] in ("symbols", "flags") or subgroup in ("time", "book-paper", "writing", "transport-sign")
    sided = any(re.search(r"\b(left|right)", text) for text in row["captions"])
    return not read and not sided and not ONE_WAY.search(row["text"].lower())


def names_colour(label: str) -> bool:
    """Whether the label says a colour itself: `red apple`, `blond hair`."""
    return bool({*colours.NAMES, "gold", "silver", "blond", "light", "dark"} & set(WORDS.findall(label.lower())))


def coloured(label: str, names: list[str]) -> str:
    """`orange cat`, `red and white barber pole`; a label with a colon gets it behind."""
    said = " and ".join(names)
    return f"{label}, {said}" if re.search(r"[:(]|^[A-Z]", label) else f"{said} {label}"


def tag_of(row: dict[str, Any]) -> str:
    """One tag, another for each style, that says something the label does not; nothing where there is none."""
    words = set(WORDS.findall(row["text"].lower()))
    fresh = [tag for tag in row["tags"] if not words & set(WORDS.findall(tag.lower())) and len(tag) > 2]
    digest = hashlib.sha256(row["file_name"].encode()).digest()
    return fresh[int.from_bytes(digest[:4], "big") % len(fresh)] if fresh else ""


def captions(row: dict[str, Any], subgroup: str, found: list[str]) -> list[str]:
    """Three to five further captions of a row of metadata.jsonl, the short ones first. found: its `colours.named`.

    The last names the style; it is for trainers that do not add the row's `style` themselves, as genctl does.
    """
    label, kind, tag = row["text"], kind_of(subgroup), tag_of(row)
    forms = [with_article(label)] if countable(label, subgroup) else []
    if found and row["group"] not in ("people-body", "flags") and not names_colour(label):
        forms.append(coloured(label, found))
    forms += [f"{kind}: {label}"] if kind and kind not in label else []
    forms += [f"{label}, {tag}"] if tag else []
    forms = [f"{label} emoji", *forms, f"{row['group'].replace('-', ' and ')}: {label}"] if len(forms) < 2 else forms
    return [*forms, f"{label}, {row['style']} style"]
