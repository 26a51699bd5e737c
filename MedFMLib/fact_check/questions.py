"""Recognise questions about a volume that its geometry, its header or the outline of a structure answers.

A question is recognised only if all of its words fit a form; of any other, such as "is the liver enlarged?", nothing is
said here, so that the model is asked. Knows English words and names of structures; no measurements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.terminology import aliases, split_side

HEADER = ("plane", "modality", "region", "slices", "field of view", "spacing")
"""Kinds of questions that need no outline."""

KINDS = (
    *HEADER, "presence", "which", "side", "picture side", "where", "level", "size", "diameter", "extent", "intensity", "largest",
    "compare", "equal", "count", "count all", "list",
)  # fmt: skip
"""Kinds of questions."""


@dataclass(frozen=True)
class VolumeQuestion:
    """A recognised question.

    Args:
        kind: of `KINDS`.
        structures: for each name in the question, the labels that it stands for: both sides of "kidney".
        value: what it asks for or suggests: "ct" of "is this a CT?", "left", "largest", "smaller", "front-back".
    """

    kind: str
    structures: tuple[tuple[str, ...], ...] = ()
    value: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of its structures, in order."""
        return tuple(dict.fromkeys(label for labels in self.structures for label in labels))


# -- words -----------------------------------------------------------------------------------------------------

POLITE = re.compile(
    r"(?:(?:hello|hi|hey|please|so|ok|okay|well|and|now)\b[ ,]*|(?:can|could|would|will) you (?:please )?(?:tell|show|say to) me"
    r"(?: please)?[,:]? |(?:please )?tell me[,:]? |do you know |i (?:would like|want) to know )+"
)
PICTURE = (
    r"(?:mri?|ct|cat|pet|3d|medical|whole|entire|full|current|present)?\s?(?:image|images|volume|scan|scans|picture|"
)
PICTURE += r"series|study|stack|data ?set|examination|exam|slice|slices|ct|mri?)"
THIS = rf"(?:(?:this|that|the|these|those|my) {PICTURE}|this|it)"
IN = rf"(?: (?:in|on|of|from|within|inside|at) {THIS}| here)?"
SEEN = (
    "(?:visible|present|shown|seen|to be seen|included|depicted|displayed|imaged|covered|contained|visualised|visualized|found|"
    "in view|in the field of view|within the field of view)"
)
SEE = "(?:see|find|identify|recognise|recognize|detect|make out|spot|segment|outline)"
LIE = "(?:located|situated|found|lying|lie|lies|placed|sit|positioned|visible|seen)"
BE = "(?:is|are|was|were)"
PLANE = "(?:axial|coronal|sagittal|transverse|transversal|transaxial)"
KIND = r"(?:ct|cat|computed tomography|mri?|mr|magnetic resonance(?: imaging)?|pet|x-?ray|radiograph|ultrasound|us)"

ARTICLES = "(?:(?:the|a|an|any|some|both|two|all|of|this|that|patient's|patients?) )*"
ONE = f"{ARTICLES}#"
MANY = rf"{ONE}(?:(?:,? (?:and|or) |, ){ONE})*"
PAIR = rf"{ONE}(?:,? (?:and|or|than) ){ONE}"

OF_HEADER: tuple[tuple[str, str], ...] = (
    ("plane", rf"(?:in |on )?(?:which|what) (?:anatomical |imaging |image |slice |scan )?"
              rf"(?:plane|orientation|view|slice orientation)"
              rf"(?: (?:is|are|was|were|do|does|has|have) {THIS})?(?: "
              rf"(?:shown|acquired|taken|oriented|in|have|has|used|seen|recorded))?{IN}"),
    ("plane", rf"{BE} {THIS} (?:in )?(?:an? |the )?(?P<value>{PLANE})(?:(?:,| or|, or) (?:an? |the )?{PLANE})*"
              rf"(?: (?:{PICTURE}|plane|view|section|cut|orientation))?"),
    ("plane", rf"(?:how|in what orientation) {BE} {THIS} oriented"),
    ("modality", rf"(?:with )?(?:which|what) (?:imaging |image |scan )?(?:modality|technique|method|(?:type|kind|sort) of "
                 rf"(?:medical )?(?:image|scan|imaging|examination|study|modality))(?: {BE} {THIS})?(?: (?:{BE} )?"
                 rf"(?:shown|used|acquired|taken|"
                 rf"made|recorded))?{IN}"),
    ("modality", rf"how {BE} {THIS} (?:acquired|taken|made|recorded|produced)"),
    ("modality", rf"{BE} {THIS} (?:an? )?(?P<value>{KIND})(?:(?:,| or|, or) (?:an? )?{KIND})*(?: {PICTURE})?"),
    ("region", rf"(?:which|what) (?:part of the (?:human )?body|parts of the body|body ?parts?|body region|region of"
               rf" the body|"
               rf"anatomical region|area of the body|region|anatomy)(?: (?:is|are|does|do) {THIS})?(?: (?:{BE} )?"
               rf"(?:{SEEN}|show|depict))?{IN}"),
    ("slices", rf"how many (?:{PLANE} )?(?:slices|sections|images|layers|cuts)(?: (?:are|does|do|is|has|have)(?:"
               rf" there| {THIS})?"
               rf"(?: (?:have|has|contain|include|consist of))?)?{IN}"),
    ("slices", rf"what is the (?:number|count) of (?:{PLANE} )?(?:slices|sections|images){IN}"),
    ("field of view", rf"(?:what is|how (?:large|big|wide) is) the (?:field of view|fov|(?:extent|size|coverage)(?="
                      rf" of){IN}){IN}"),
    ("field of view", r"how (?:large|big) is (?:this|the) (?:image|volume|scan|field of view)"),
    ("spacing", rf"(?:what is|how (?:large|big|thick) (?:is|are)|what are) the (?:(?:voxel|pixel|slice) "
                rf"(?:spacing|size|sizes|thickness|"
                rf"distance|dimensions|resolution)|spacing|resolution|slice thickness|slices|voxels){IN}"),
    ("spacing", rf"how (?:far apart|thick|large|big) are the (?:slices|voxels|pixels){IN}"),
)  # fmt: skip
"""(kind, form) of questions without a structure."""

OF_STRUCTURES: tuple[tuple[str, str], ...] = (
    ("presence", rf"{BE} there (?:also )?{MANY}(?: {SEEN})?{IN}"),
    ("presence", rf"{BE} {MANY} (?:also )?{SEEN}(?: or not)?{IN}"),
    ("presence", rf"{BE} {MANY} (?:in|on|part of) {THIS}"),
    ("presence", rf"(?:can|do|could|did) (?:you|we|i|one) (?:also )?{SEE} {MANY}{IN}"),
    ("presence", rf"(?:can|could) {MANY} be (?:seen|found|identified|recognised|recognized|detected|segmented){IN}"),
    ("presence", rf"(?:does|do) {THIS} (?:also )?(?:show|include|contain|cover|depict|have) {MANY}"),
    ("which", rf"which (?:of the (?:two )?)?{ONE} {BE} {SEEN}{IN}"),
    ("picture side", rf"(?:on |at |in )?(?:which|what) side of the (?:picture|image|slice|screen) (?:is|are|does|do) {ONE}"
                     rf"(?: {LIE})?(?: on| in| at)?"),
    ("side", rf"(?:on |at |in )?(?:which|what) side(?: of the (?:body|patient|abdomen|chest|head|brain|torso|trunk))?"
             rf" (?:is|are|does|do) {MANY}(?: {LIE})?(?: on| in| at)?{IN}"),
    ("side", rf"{BE} {ONE} {LIE}? ?(?:on|in) the (?P<value>left|right)(?: side)?(?: of the "
             rf"(?:body|patient|abdomen|chest|head|brain))?"
             rf"(?:,? or (?:on )?(?:the )?(?:left|right)(?: side)?)?{IN}"),
    ("side", rf"{BE} {ONE} (?P<value>left|right)(?: or (?:left|right))?(?:-sided)?{IN}"),
    ("where", rf"where (?:is|are|does|do|can) (?:(?:you|i|we) (?:see|find) )?{MANY}(?: (?:be )?{LIE})?{IN}"),
    ("where", rf"what is the (?:position|location|place) of {MANY}{IN}"),
    ("level", rf"(?:(?:at|on|in) )?(?:which|what) (?:level|levels|slice|slices|height|{PLANE} slices?)(?: numbers?)? "
              rf"(?:is|are|can|does|do) "
              rf"{MANY}(?: (?:be )?(?:{SEEN}|{LIE}))?(?: at| in| on)?{IN}"),
    ("level", rf"(?:which|what) (?:{PLANE} )?slices? "
              rf"(?:show|shows|contain|contains|include|includes|cover|covers|depict|depicts) {MANY}"),
    ("size", rf"how (?:large|big) (?:is|are) {MANY}{IN}"),
    ("size", rf"what (?:is|are) the (?:size|sizes|dimensions?|volume|volumes|measurements?|extents?)(?: and "
             rf"(?:size|volume|dimensions))? of "
             rf"{MANY}{IN}"),
    ("size", rf"what is {ONE} (?:size|volume){IN}"),
    ("size", rf"how much volume (?:does|do) {MANY} have{IN}"),
    ("diameter", rf"(?:what (?:is|are)|how (?:large|big|long) (?:is|are)) the (?:"
                 rf"(?:longest|largest|maximal|maximum|greatest|max) )?"
                 rf"(?:diameters?|length) of {MANY}{IN}"),
    ("diameter", rf"how long (?:is|are) {MANY}{IN}"),
    ("extent", rf"how (?P<value>wide|broad|tall|high|deep) (?:is|are) {MANY}{IN}"),
    ("extent", rf"what (?:is|are) the (?P<value>width|height|depth) of {MANY}{IN}"),
    ("intensity", rf"what (?:is|are) the (?:mean |average )?(?:hu|hounsfield"
                  rf" units?|density|attenuation|intensity|signal|signal intensity|"
                  rf"hu value|intensities)(?: values?)? (?:of|in) {MANY}{IN}"),
    ("compare", rf"(?:which|what)(?: one)? (?:is|are) (?:the )?(?P<value>larger|bigger|smaller)(?: one)?[,:]? {PAIR}{IN}"),
    ("compare", rf"{BE} {ONE} (?P<value>larger|bigger|smaller) than {ONE}{IN}"),
    ("compare", rf"which (?:of the (?:two )?)?{ONE} (?:is|are) (?:the )?(?P<value>larger|bigger|smaller)(?: one)?{IN}"),
    ("equal", rf"{BE} {MANY} (?:about |roughly |approximately |nearly )?(?:of )?(?:the )?(?:same|equal) (?:in )?size{IN}"),
    ("equal", rf"{BE} {MANY} (?:about |roughly )?equally (?:large|big){IN}"),
    ("equal", rf"do {MANY} (?:have (?:about |roughly )?the same (?:size|volume)|differ in (?:size|volume)){IN}"),
    ("count", rf"how many {ONE}(?: (?:are|is|can|do|does)(?: (?:there|be|you|we|i|one))?(?: (?:{SEEN}|{SEE}))?)?{IN}"),
    ("count", rf"what is the number of {ONE}{IN}"),
)  # fmt: skip
"""(kind, form) of questions about structures; `#` stands for a name."""

PARTS = "(?:structures?|organs?|anatomical structures?|anatomy|body parts|parts|segments?)"
OF_ALL: tuple[tuple[str, str], ...] = (
    ("largest", rf"(?:which|what) (?:is|are) the (?P<value>largest|biggest|smallest) (?:{SEEN} )?{PARTS}(?: {SEEN})?{IN}"),
    ("largest", rf"(?:which|what) (?:{SEEN} )?{PARTS}(?: {SEEN})? is (?:the )?(?P<value>largest|biggest|smallest)(?:"
                rf" one)?{IN}"),
    ("count all", rf"how many (?:different |{SEEN} )*{PARTS}(?: (?:are|can|do)(?: (?:there|be|you|we|i))?(?: "
                  rf"(?:{SEEN}|{SEE}|segmented))?)?{IN}"),
    ("list", rf"(?:which|what) (?:of the )?(?:{SEEN} )?{PARTS} (?:is|are|can|do|could)(?: (?:there|you|we|i|one))?(?:"
             rf" (?:be )?(?:{SEEN}|{SEE}))?{IN}"),
    ("list", rf"(?:which|what) {PARTS} (?:does|do) {THIS} (?:show|contain|include|cover|depict)"),
    ("list", rf"(?:list|name|enumerate|show me|give me)(?: me)?(?: a list of)?(?: all)?(?: of)?(?: the)? (?:{SEEN}"
             rf" )?{PARTS}(?: (?:that|which) "
             rf"(?:are|is|can be|you can|you))?(?: (?:{SEEN}|{SEE}))?{IN}"),
)  # fmt: skip
"""(kind, form) of questions about everything that is there."""

FORMS = {name: [(kind, re.compile(form)) for kind, form in forms] for name, forms in (
    ("header", OF_HEADER), ("structures", OF_STRUCTURES), ("all", OF_ALL))}  # fmt: skip

EXTENTS = {
    "wide": "left-right", "broad": "left-right", "width": "left-right", "tall": "head-foot", "high": "head-foot",
    "height": "head-foot", "deep": "front-back", "depth": "front-back",
}  # fmt: skip
SAME = {
    "bigger": "larger",
    "biggest": "largest",
    "transverse": "axial",
    "transversal": "axial",
    "transaxial": "axial",
    **EXTENTS,
}


def read_question(question: str, labels: Sequence[str]) -> VolumeQuestion | None:
    """Return what a question asks for, or None if it is not surely one of the known kinds.

    Args:
        question: in English.
        labels: structures that the model knows in images of this kind, with their sides.
    """
    text = _plain(question)
    if len(text) > LONGEST:
        return None
    if (found := _match("header", text)) is not None:
        return VolumeQuestion(found[0], value=_value(*found))
    if (found := _match("all", text)) is not None:
        return VolumeQuestion(found[0], value=_value(*found))
    replaced, structures, by_alias = _with_gaps(text, labels)
    if not structures or (found := _match("structures", replaced)) is None:
        return None
    kind, value = found[0], _value(*found)
    if kind == "count" and (by_alias or len(structures) != 1):
        return None  # "how many vertebrae" does not count spines
    if kind == "compare" and len(structures) == 1 and len(structures[0]) != 2:
        return None
    if kind == "equal" and len({label for labels in structures for label in labels}) != 2:
        return None
    return VolumeQuestion(kind, tuple(structures), value)


LONGEST = 200
"""Letters of the longest question that is compared with the forms."""


def _plain(question: str) -> str:
    """Return a question in lower case, without polite words, contractions and its mark."""
    text = " ".join(question.lower().replace("’", "'").split()).strip(" .?!")
    for short, full in (("what's", "what is"), ("where's", "where is"), ("which's", "which is"), ("how's", "how is")):
        text = text.replace(short, full)
    text = re.sub(r"[\"“”]", "", text)
    return POLITE.sub("", text, count=1) if POLITE.match(text) else text


def _match(forms: str, text: str) -> tuple[str, re.Match] | None:
    for kind, form in FORMS[forms]:
        if (match := form.fullmatch(text)) is not None:
            return kind, match
    return None


def _value(kind: str, match: re.Match) -> str:
    value = match.groupdict().get("value") or ""
    return SAME.get(value, value)


# -- names -----------------------------------------------------------------------------------------------------


def _with_gaps(text: str, labels: Sequence[str]) -> tuple[str, list[tuple[str, ...]], bool]:
    """Return (the text with `#` for each name, the labels of each, whether a name is an alias), longest names first.

    A name with a side that the model doesn't distinguish stays, so that the question fits no form.
    """
    names, others = _names(labels)
    spelled = {form: name for name in names for form in _forms(name)}
    longest = "|".join(re.escape(form) for form in sorted(spelled, key=len, reverse=True))
    if not longest:
        return text, [], False
    pattern = re.compile(rf"\b(?:(?P<both>left (?:and|or)(?: the)? right |right (?:and|or)(?: the)? left )|"
                         rf"(?P<side>left|right) )?"
                         rf"(?P<name>{longest})\b")  # fmt: skip
    found: list[tuple[str, ...]] = []
    by_alias = False

    def gap(match: re.Match) -> str:
        nonlocal by_alias
        name = spelled[match["name"]]
        mine = names[name]
        if match["side"]:
            mine = tuple(label for label in mine if split_side(label)[0] == match["side"])
        elif match["both"] and len(mine) != 2:
            mine = ()
        if not mine:
            return match[0]
        found.append(mine)
        by_alias |= name in others
        return "#"

    return pattern.sub(gap, text), found, by_alias


def _names(labels: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """Return (name without side → its labels; the names that the terminology adds)."""
    names: dict[str, tuple[str, ...]] = {}
    for label in labels:
        base = split_side(label)[1]
        names[base] = (*names.get(base, ()), label)
    more = {alias: names[name] for alias, name in aliases().items() if name in names and alias not in names}
    return {**names, **more}, set(more)


def _forms(name: str) -> set[str]:
    """Return a name in singular and plural, as it is written in English and in Latin."""
    forms = {name, f"{name}s", f"{name}es"}
    for end, plural in (("us", "i"), ("um", "a"), ("men", "mina"), ("la", "lae"), ("ex", "ices"), ("y", "ies")):
        if name.endswith(end):
            forms.add(name.removesuffix(end) + plural)
    return forms
