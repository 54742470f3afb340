"""Which icon of a package draws which thing, where the package gives names instead of code points.

A thing goes by several names: today's label, the Unicode name (which never changes), what a set with code points calls
it, its short codes and its tags. They are tried in that order; a name that two things share in one of these lists
counts for neither, an icon draws one thing and a thing has one icon. What went wrong, or was not found, on contact
sheets of all joined pictures is set right by hand. A wrong join teaches a wrong word, so what is doubtful is left out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

Names = dict[str, str]  # a plain name -> the key of the only thing that it names

BY_HAND = {  # style -> "icon=key ..."; "icon=" joins nothing: a revolver is no water pistol, a blue mark no red one
    "noto-old": """
        pistol= red-heart= red-paper-lantern= exclamation-mark= question-mark= upwards-button= downwards-button=
        person-taking-bath=""",
    "emojitwo": "pistol=",
    "firefox": """
        pistol= tramcar= fog= keyboard= window= sunglasses=1f60e darksunglasses=1f576 pouting=1f621 pout=1f64e
        down=1f447 blonde=1f471 personalcomputer= oldpersonalcomputer=1f4bb construction=1f3d7 constructionsign=1f6a7
        umbrella=1f302
        cat=1f431 catside=1f408 dog=1f436 dogside=1f415 pig=1f437 pigside=1f416 mouse=1f42d mouseside=1f401
        tiger=1f42f tigerside=1f405 bunny=1f430 bunnyside=1f407 dragonhead=1f432 dragonside=1f409 leopardside=1f406
        whale=1f40b spurtingwhale=1f433 pigsnout=1f43d hampster=1f439 frontfacingchick=1f425 monkeyhear=1f649
        monkeysee=1f648 monkeyspeak=1f64a anguish=1f627 crying=1f622 loudlycrying=1f62d devilhorns=1f608
        dissapointedrelief=1f625 frownmouth=1f626 kissclosedeyes=1f61a kisseyes=1f619 perservere=1f623 screamfear=1f631
        smallfrown=1f641 smallsmile=1f642 smileeyes=1f60a smiletongue=1f60b tongueoutwink=1f61c winking=1f609
        2hearts=1f495 heartarrow=1f498 heartgreen=1f49a heartpurple=1f49c heartyellow=1f49b
        americasglobe=1f30e europeafricaglobe=1f30d asiaaustraliaglobe=1f30f meridianglobe=1f310 silhouetteohjapan=1f5fe
        aok=1f44c fistedhand=1f44a flexbicep=1f4aa hands=1f450 high5=1f64c index=261d left=1f448 right=1f449 up=1f446
        leftwritinghand=270d raisedhandpartfingers=1f596 raisedhandsfingerssplayed=1f590 waving=1f44b wave=1f30a
        bowing=1f647 bunny-ears=1f46f construct=1f477 contact=1f464 contact2=1f465 couple=1f491
        frown=1f64d girlgirl=1f46d girlguy=1f46b guyguy=1f46c gma=1f475 gpa=1f474 guapimao=1f472 handup=1f64b
        headmassage=1f486 nogesture=1f645 okgesture=1f646 sleuthspy=1f575 turban=1f473 waitress=1f481
        japaneseangrymask=1f47a beachumbrella=1f3d6 snowmountains=1f3d4 toykotower=1f5fc
        highspeedtrainbulletnose=1f685 fallingleaf=1f342 leaffluttering=1f343 chilipepper=1f336 fishcakeswirl=1f365
        forkknife=1f37d sweatsplash=1f4a6 stormcloud=1f329 sunraincloud=1f326 whitesun=2600 waningbibbousmoon=1f316
        bolt=26a1 banknotedollar=1f4b5 banknoteeuro=1f4b6 banknotepound=1f4b7 banknoteyen=1f4b4 bow=1f380
        cellphone=1f4f1
        bellcancellation=1f515 bookmarktab=1f4d1 chartdownwardstrend=1f4c9 chartupwardstrend=1f4c8
        chartupwardstrendyen=1f4b9 closedmailboxlowered=1f4ea closedmailboxraised=1f4eb openmailboxlowered=1f4ed
        openmailboxraised=1f4ec envelopedownarrowabove=1f4e9 floppydisk2=1f4be handheldvideocamera=1f4f9
        leftmagnifyingglass=1f50d rightmagnifyingglass=1f50e lockandkey=1f510 lowerleftpen=1f58a makeupbag=1f45d
        manltepiececlock=1f570 mansshirt=1f455 womansshirt=1f45a mensrunner=1f45f mensshoe=1f45e
        notebookdecorativecover=1f4d4 phonerightarrowleft=1f4f2 pinkwallet=1f45b potablewatersystem=1f6b0
        speaker3soundwaves=1f50a speakeronesoundwave=1f509 speakercancellation=1f507 speechbubble=1f4ac
        thoughtbaloon=1f4ad studiomic=1f399 telephonereceiver2=1f4de tennisball=1f3be videocasette=1f4fc
        ballottboxwithballott=1f5f3 blackskullcrossbones=2620 heavylatincross=271d heavymultiplicationsymbol=2716
        eightspokedasterix=2733 doubleexclaimationmark=203c exclaimationquestionmark=2049 whiteexclaimationmark=2755
        diamondshapewithdotinside=1f4a0 nooneunder18symbol=1f51e saggitarius=2650 sixpointedstarwithdot=1f52f
        squaredup=1f199 negativesquaredlatincaptiala=1f170 negativesquaredlatincaptialb=1f171
        negativesquaredlatincaptialo=1f17e backwithleftwardsarrow=1f519 endwithleftwardsarrow=1f51a
        onarrowleftright=1f51b soonwithrightarrow=1f51c topwithupwardsarrow=1f51d arrowrightwardsdownwards=2935
        arrowrightwardsupwards=2934 anticlockwiseupwardsanddownwardsarrows=1f504 clockwisedownupcircledarrows=1f503
        clockwiserightwardsleftwardscirclearrows=1f501 clockwiserightwardsleftwardscirclearrowsone=1f502
        blackdownpointingdoublearrow=23ec blackuppointingdoublearrow=23eb blackleftpointingarrow=25c0
        blackleftpointingdoublearrow=23ea blackrightpointingarrow=25b6 blackrightpointingdoublearrow=23e9
        clock12oclock=1f55b clock12thirty=1f567 clock1oclock=1f550 clock1thirty=1f55c clock2oclock=1f551
        clock2thirty=1f55d clock3oclock=1f552 clock3thirty=1f55e clock4oclock=1f553 clock4thirty=1f55f
        clock5thirty=1f560 clock6oclock=1f555 clock6thirty=1f561 clock7oclock=1f556""",
    "streamline": """
        russia= japan= turkey= pistol= right-anger-bubble= gesturing-ok-1=1f646-200d-2640 game-dice=1f3b2
        crazy-face=1f92a amusing-face=1f92d""",
}


def plain(name: str) -> str:
    """A name without case, accents, hyphens and any other sign: `Piñata` and `pin-ata` are `pinata`."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "", letters.lower())


def unambiguous(pairs: Iterable[tuple[str, str]]) -> Names:
    """name -> key of (name, key) pairs, without the names that several keys share."""
    found: dict[str, set[str]] = {}
    for name, key in pairs:
        if plain(name):
            found.setdefault(plain(name), set()).add(key)
    return {name: next(iter(keys)) for name, keys in found.items() if len(keys) == 1}


def unicode_name(key: str) -> str:
    """The Unicode name of a key of one code point, else nothing."""
    return "" if "-" in key else unicodedata.name(chr(int(key, 16)), "")


def ways(things: dict[str, dict[str, Any]], codes: dict[str, list[str]], others: dict[str, str]) -> dict[str, Names]:
    """The lists of names, best first. things: key -> `label` and perhaps `tags`; codes: key -> short codes; others:
    what a set with code points calls things, name -> key."""
    return {
        "label": unambiguous((thing["label"], key) for key, thing in things.items()),
        "unicode": unambiguous((unicode_name(key), key) for key in things),
        "other set": unambiguous((name, key) for name, key in others.items() if key in things),
        "short code": unambiguous((name, key) for key in things for name in codes.get(key, [])),
        "tag": unambiguous((tag, key) for key, thing in things.items() for tag in thing.get("tags", [])),
    }


def by_hand(style: str) -> dict[str, str]:
    """icon -> key (or nothing) of a style's joins that are made by hand."""
    return dict(pair.split("=") for pair in BY_HAND.get(style, "").split())


def join(
    icons: Iterable[str], aliases: dict[str, str], lists: dict[str, Names], fixed: dict[str, str]
) -> dict[str, tuple[str, str]]:
    """key -> (icon, way) for the icons of one package; aliases: name -> icon; fixed: icon -> key, made by hand. Of a
    series (`cup-1`, `cup-2`) the first is taken. Skin tones are left out."""
    there = [icon for icon in icons if "skin-tone" not in icon]
    joined = {key: (icon, "by hand") for icon, key in fixed.items() if key and icon in there}
    left = [icon for icon in there if icon not in fixed]
    series = {icon.removesuffix("-1"): icon for icon in left if icon.endswith("-1")}
    own = {icon: icon for icon in left}
    for way, names in lists.items():
        for kind, called in ((way, own), (f"{way}, first of a series", series), (f"{way}, by alias", aliases)):
            taken = {icon for icon, _ in joined.values()}
            for name, icon in called.items():
                key = names.get(plain(name))
                if key and key not in joined and icon in own and icon not in taken:
                    joined[key] = (icon, kind)
                    taken.add(icon)
    return joined
