"""What an argument may be by its name, where its schema says no more than its type."""

from __future__ import annotations

import random

from stratos.contrib.tools.spelling import MONEY, SHARES

_CITIES = (
    "Paris|Tokyo|Cairo|Lima|Oslo|Toronto|Nairobi|Sydney|Madrid|Mumbai|Chicago|Lisbon|Vienna|Dublin|"
    "Seoul|Denver|Athens|Bogota|Helsinki|Jakarta|San Diego|Cape Town|Buenos Aires|Hong Kong|Prague"
)
_PEOPLE = (
    "Alice Martin|Omar Haddad|Yuki Tanaka|Lena Novak|Carlos Diaz|Priya Shah|John Miller|Emma Brown|"
    "Noah Kim|Sofia Rossi|David Okafor|Maria Silva|Peter Schmidt|Anna|Robert|Fatima|Jack|Linda"
)
_TOPICS = (
    "quarterly report|solar energy|garden tools|team lunch|travel plans|jazz history|new bicycle|"
    "climate change|machine learning|home repair|healthy breakfast|electric cars|modern art|"
    "world history|online courses|running shoes|job interview|birthday party|space travel"
)
_TEXTS = (
    (("city", "location", "place", "destination", "origin", "town", "departure", "arrival"),
     _CITIES),
    (("country", "nation"),
     "France|Japan|Egypt|Peru|Norway|Canada|Kenya|Spain|India|Brazil|Germany|Mexico|China|Italy"),
    (("state", "region", "province"),
     "California|Texas|Ohio|Florida|Oregon|Nevada|Bavaria|Ontario|Tuscany|Andalusia|New York"),
    (("address", "street"), "12 Oak Street|98 Hill Road|450 Lake Avenue|7 King Street, Boston"),
    (("company", "employer", "organization", "brand", "manufacturer"),
     "Siemens|Toyota|Nestle|Intel|Sony|Adidas|Samsung|Unilever|Boeing|Philips|Nike|Apple"),
    (("stock", "ticker", "symbol"), "INTC|NKE|IBM|KO|BA|ORCL|SONY|DIS|AMZN|NFLX"),
    (("team", "club"), "Ajax|Bulls|Yankees|Celtics|Juventus|Lakers|Real Madrid|Red Sox|Eagles"),
    (("sport",), "tennis|basketball|soccer|rugby|swimming|hockey|volleyball"),
    (("language", "lang"), "English|French|Japanese|Spanish|German|Arabic|Hindi|Italian"),
    (("currency",), "EUR|USD|GBP|JPY|CHF|INR|CAD"),
    (("color", "colour"), "red|blue|green|black|white|yellow|purple"),
    (("time", "hour"), "08:30|12:00|17:45|21:15|06:00|10:30|19:00"),
    (("month",), "January|March|May|July|September|November"),
    (("day", "weekday"), "Monday|Tuesday|Thursday|Friday|Sunday"),
    (("movie", "film", "show"),
     "Silent Harbor|The Last Train|Night Garden|Blue Mountain|A Long Winter|Paper Moon"),
    (("book", "novel"), "Moby Dick|Emma|Middlemarch|The Time Machine|Dracula|Walden|Candide"),
    (("song", "track", "album"),
     "Yellow River|Midnight Rain|Summer Roads|Golden Hour|Echoes|Paper Planes|Slow Dance"),
    (("genre",), "jazz|rock|comedy|drama|mystery|pop|fantasy|history|thriller"),
    (("food", "dish", "meal", "recipe", "cuisine", "restaurant"),
     "Italian|Thai|pasta|vegetable soup|sushi|pancakes|Mexican|fried rice|lasagna|Indian"),
    (("ingredient",), "flour|tomato|rice|chicken|garlic|basil|butter|spinach"),
    (("animal", "species", "organism"), "lion|gray wolf|honey bee|elephant|salmon|zebra|oak|corn"),
    (("product", "item", "object"),
     "laptop|office chair|coffee maker|headphones|water bottle|desk lamp|tent|backpack"),
    (("hotel",), "Grand Plaza|Sea View Inn|Park Hotel|Hilton|Alpine Lodge"),
    (("airline",), "Lufthansa|Delta|Emirates|Qantas|Air France"),
    (("event", "festival"), "book fair|jazz festival|marathon|food festival|World War I|eclipse"),
    (("job", "occupation", "position", "profession", "role"),
     "nurse|software engineer|teacher|accountant|electrician|manager|designer"),
    (("subject", "course", "discipline", "field"),
     "physics|biology|economics|history|chemistry|literature|algebra|statistics"),
    (("substance", "material", "compound", "element", "metal"),
     "water|copper|ethanol|iron|glass|carbon dioxide|gold|helium|oak wood|sodium"),
    (("function", "expression", "equation", "formula"),
     "x^2 + 3x - 2|2*x + 5|sin(x)|x**3|3x^2 - 4|exp(x)|log(x)|x^2"),
    (("disease", "condition", "symptom"), "asthma|diabetes|headache|fever|migraine|flu"),
    (("unit", "units"), "kilometers|miles|celsius|meters|kilograms|hours|pounds"),
    (("gender", "sex"), "male|female"),
    (("phone", "mobile"), "555-0134|555-0187|+44 20 7946 0018|+1 202 555 0156"),
    (("zip", "postal", "zipcode"), "10001|94103|60614|02139|73301"),
    (("file", "path", "filename", "directory", "folder"),
     "report.txt|data/input.csv|notes.md|/home/user/photos|images/logo.png|backup"),
    (("password", "token", "key"), "s3cret!|abc123|blue-horse-7|pass9876|zx81"),
    (("user", "person", "author", "artist", "customer", "player", "actor", "director", "sender",
      "recipient", "receiver", "username", "patient", "student", "employee", "contact", "celebrity",
      "composer", "scientist"), _PEOPLE),
    (("title", "subject", "topic", "query", "keyword", "text", "message", "note", "content",
      "description", "question", "category", "theme", "search", "body", "reason"), _TOPICS),
)  # fmt: skip
_WORDS = (
    "amber", "birch", "cedar", "delta", "ember", "falcon", "granite", "harbor", "indigo", "juniper",
    "kestrel", "lagoon", "maple", "nectar", "opal", "prairie", "quartz", "river", "sable", "tundra",
)  # fmt: skip
_KNOWN = {name: values.split("|") for names, values in reversed(_TEXTS) for name in names}
_SMALL = frozenset((
    "count", "limit", "number", "num", "quantity", "people", "guests", "passengers", "rooms",
    "tickets", "results", "adults", "children", "seats", "nights", "years", "months", "weeks",
    "days", "hours", "page", "pages", "size", "items", "top", "n", "k",
))  # fmt: skip
_RANGES = {
    "age": (18, 80), "month": (1, 12), "day": (1, 28), "hour": (0, 23), "minute": (0, 59),
    "population": (10_000, 5_000_000), "rating": (1, 5), "year": (1950, 2030),
}  # fmt: skip
_NUMBERS = ((1, 20), (1, 20), (1, 100), (100, 5000))
"""The range of a number whose name says nothing: small ones are commoner."""
_MONEY_STEPS = (10, 50, 100, 1000, 5000)


def word(rng: random.Random) -> str:
    """Return a word that stands for nothing."""
    return rng.choice(_WORDS)


def text_by_name(name: str, rng: random.Random) -> str:
    """Return a text for an argument: of what its last known word names.

    Args:
        name: of the argument, such as `departure_city`.
        rng: source of chance.
    """
    words = [one.rstrip("s") if one not in _KNOWN else one for one in _split(name)]
    known = next((_KNOWN[one] for one in reversed(words) if one in _KNOWN), None)
    if known is not None:
        return rng.choice(known)
    if words == ["name"] or words[-2:] in (["full", "name"], ["first", "name"], ["last", "name"]):
        return rng.choice(_PEOPLE.split("|"))
    if rng.random() < 0.3:
        return rng.choice(_TOPICS.split("|"))
    made = f"{word(rng)} {word(rng)}" if rng.random() < 0.6 else word(rng)
    return made.title() if words[-1:] == ["name"] else made


def number_by_name(
    name: str, rng: random.Random, *, is_whole: bool, is_whole_percent: bool
) -> float:
    """Return a number without bounds for an argument.

    Args:
        name: of the argument, such as `interest_rate`.
        rng: source of chance.
        is_whole: whether it is an integer.
        is_whole_percent: whether 5% is 5, and not 0.05.
    """
    words = _split(name) or [""]
    if words[-1] in SHARES:
        share = rng.randint(1, 30)
        return share if is_whole or is_whole_percent else share / 100
    if words[-1] in MONEY:
        return rng.randint(1, 20) * rng.choice(_MONEY_STEPS)
    found = next((_RANGES[one] for one in reversed(words) if one in _RANGES), None)
    low, high = found or ((1, 10) if _SMALL & set(words) else rng.choice(_NUMBERS))
    if is_whole or rng.random() < 0.5:
        return rng.randint(low, high)
    return round(rng.uniform(low, high), rng.choice((1, 2)))


def _split(name: str) -> list[str]:
    parts = "".join(f"_{c}" if c.isupper() else c for c in name).replace("-", "_").lower()
    return [one for one in parts.split("_") if one]
