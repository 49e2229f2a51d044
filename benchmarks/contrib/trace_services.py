"""Conversations of agents of services that differ in shape, made by a script.

- restaurant: every turn of the agent is a call, also what it tells the user.
- shop: texts and calls; ids come from the results of other tools.
- travel: texts and calls whose results the log lacks.
- operations: one request, then many calls in a row whose results are plain text.
- clinic: two calls in one turn, a choice by its place in a list, lists and booleans as arguments.
- courier: objects as arguments, also one that is optional, and lists of several things.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from stratos.contrib.logs.conversation import Call, Turn

FILLERS = ("", "", "", "please", "thanks", "hi,", "um,", "well,", "ok,", "right,", "hello there,")
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september",
          "october", "november", "december")  # fmt: skip
CITIES = ("San Jose", "Oakland", "Berkeley", "San Francisco", "Napa", "Fremont", "Palo Alto",
          "Concord", "Alameda", "Livermore", "Sausalito", "Petaluma")  # fmt: skip
AIRPORTS = ("Lisbon", "Porto", "Madrid", "Vienna", "Prague", "Warsaw", "Oslo", "Helsinki", "Rome",
            "Milan", "Athens", "Dublin", "Zurich", "New York", "Los Angeles")  # fmt: skip
CUISINES = ("Italian", "Mexican", "Chinese", "Indian", "Thai", "Japanese", "American", "Greek",
            "Vegetarian", "Seafood")  # fmt: skip
NAMES = tuple(
    f"{first} {last}"
    for first in ("Golden", "Old", "Blue", "Little", "Royal", "Green", "Lucky", "Sunny")
    for last in ("Dragon", "Garden", "Kitchen", "Table", "Bistro", "Olive", "Harbor", "Terrace")
)
PEOPLE = ("Maria Silva", "John Miller", "Aiko Tanaka", "Omar Haddad", "Lena Novak", "Priya Shah",
          "Carlos Diaz", "Emma Brown", "Noah Kim", "Peter Schmidt")  # fmt: skip


def tool(name: str, required: str, optional: str = "", **kinds: Any) -> dict[str, Any]:
    """Return a tool in the form of OpenAI; a parameter is a text where nothing else is given."""
    names = [*required.split(), *optional.split()]
    properties = {key: _schema(kinds.get(key, "string")) for key in names}
    parameters = {"type": "object", "properties": properties, "required": required.split()}
    return {
        "type": "function",
        "function": {"name": name, "description": name.replace("_", " "), "parameters": parameters},
    }


def _schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, dict):
        return kind
    return {"type": kind} if isinstance(kind, str) else {"type": "string", "enum": list(kind)}


class Script:
    """One conversation as it is written."""

    def __init__(self, rng: random.Random, talk: str = "") -> None:
        """Begin; `talk` is the tool that speaks to the user, "" where texts do."""
        self.rng, self.talk, self.turns = rng, talk, list[Turn]()

    def user(self, *texts: str) -> None:
        """Let the user say one of the texts."""
        words = self.rng.choice(FILLERS), self.rng.choice(texts), self.rng.choice(FILLERS[:5])
        self.turns.append(Turn("user", " ".join(filter(None, words))))

    def say(self, *texts: str) -> None:
        """Let the agent say one of the texts."""
        text = self.rng.choice(texts)
        if self.talk:
            self.call(self.talk, message=text)
        else:
            self.turns.append(Turn("assistant", text))

    def call(self, name: str, result: Any = None, /, **arguments: Any) -> None:
        """Let the agent call a tool; no result is written where it is None."""
        id = f"call_{len(self.turns)}"
        call = Call(id, name, json.dumps({k: v for k, v in arguments.items() if v is not None}))
        self.turns.append(Turn("assistant", "", (call,)))
        if result is not None:
            text = result if isinstance(result, str) else json.dumps(result)
            self.turns.append(Turn("tool", text, result_of=id))


def number_said(rng: random.Random, n: int) -> str:
    """Return a number in digits or in words."""
    return rng.choice((str(n), NUMBERS[n - 1]))


def day_of(rng: random.Random) -> tuple[str, str]:
    """Return a date as it is given to a tool and as it is said."""
    month, day = rng.randrange(12), rng.randint(1, 28)
    end = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}.get(day, "th")
    name = MONTHS[month].title()
    words = rng.choice((f"{name} {day}{end}", f"the {day}{end} of {name}", f"{name} {day}"))
    return f"2026-{month + 1:02d}-{day:02d}", words


def time_of(rng: random.Random) -> tuple[str, str]:
    """Return a time as it is given to a tool and as it is said."""
    hour, minute = rng.randint(11, 21), rng.choice((0, 0, 15, 30, 45))
    short = (hour - 1) % 12 + 1
    clock = f"{short}:{minute:02d}" if minute else str(short)
    half = f"half past {NUMBERS[short - 1]} in the evening" if short <= 10 else f"{clock} pm"
    words = (f"{clock} pm", f"{hour}:{minute:02d}", half if minute == 30 and hour > 16 else
            f"{clock}pm")  # fmt: skip
    return f"{hour:02d}:{minute:02d}", rng.choice(words)


# --- restaurant ----------------------------------------------------------------------------------

PRICES = {"inexpensive": ("cheap", "on a budget", "not too pricey"), "moderate": ("moderate",
          "mid range", "reasonably priced"), "expensive": ("fancy", "upscale", "expensive"),
          "very expensive": ("luxurious", "the very best, whatever it costs")}  # fmt: skip
RESTAURANT = [
    tool("find_restaurants", "city cuisine", "price_range live_music", price_range=tuple(PRICES),
         live_music="boolean"),
    tool("reserve_restaurant", "restaurant_name city time", "date party_size",
         party_size="integer"),
    tool("respond_to_user", "message"),
]  # fmt: skip


def restaurant(rng: random.Random) -> list[Turn]:
    """Return a conversation in which a table is found, and often reserved."""
    script, city, cuisine = Script(rng, "respond_to_user"), rng.choice(CITIES), rng.choice(CUISINES)
    price = rng.choice(tuple(PRICES)) if rng.random() < 0.4 else None
    known = [rng.random() < 0.5, rng.random() < 0.5]
    words = [f"{cuisine} food" if known[0] else "a place to eat", f"in {city}" if known[1] else ""]
    words += [rng.choice(PRICES[price])] if price else []
    script.user(*(f"{a} {' '.join(filter(None, words))}" for a in ("I am looking for", "find me",
                  "I'd like to get", "can you search for")))  # fmt: skip
    if not known[1]:
        script.say("Which city should I look in?", "Where do you want to eat?", "What city?")
        script.user(f"{city}", f"in {city}", f"somewhere around {city} would be good")
    if not known[0]:
        script.say("What kind of food do you like?", "Any preferred cuisine?", "Which cuisine?")
        script.user(f"{cuisine}", f"I feel like {cuisine}", f"{cuisine} would be great")
    names = rng.sample(NAMES, 3)
    music = True if rng.random() < 0.15 else None
    for tries, name in enumerate(names):
        if tries == 0:
            tables = [{"name": each, "city": city, "rating": rng.randint(30, 50) / 10}
                     for each in names]  # fmt: skip
            script.call("find_restaurants", {"restaurants": tables}, city=city, cuisine=cuisine,
                        price_range=price, live_music=music)  # fmt: skip
        script.say(f"I found {name} in {city}, it is rated well.", f"How about {name}?",
                   f"{name} is a nice restaurant with {cuisine} food.")  # fmt: skip
        if rng.random() < 0.6:
            break
        if rng.random() < 0.3:
            cuisine = rng.choice([each for each in CUISINES if each != cuisine])
            script.user(f"no, let me try {cuisine} instead", f"what about {cuisine} food there?")
            script.call("find_restaurants", {"restaurants": [{"name": each, "city": city}
                        for each in names[tries:]]}, city=city, cuisine=cuisine,
                        price_range=price)  # fmt: skip
            continue
        script.user("anything else?", "I don't like that one", "what other options are there?")
    if rng.random() < 0.3:
        script.user("what is their phone number?", "how is it rated?", "is it expensive there?")
        script.say(f"The phone number is {rng.randint(200, 999)}-{rng.randint(1000, 9999)}.",
                   "It has four stars.", "It is in the middle price range.")  # fmt: skip
    if rng.random() < 0.75:
        _reserve(script, rng, name, city)
    script.user("that is all, bye", "nothing else, thank you", "no, that's everything")
    script.say("Have a great day!", "Enjoy your meal!", "You're welcome, goodbye.")
    return script.turns


def _reserve(script: Script, rng: random.Random, name: str, city: str) -> None:
    (time, time_said), (day, day_said) = time_of(rng), day_of(rng)
    size = rng.randint(1, 8) if rng.random() < 0.7 else None
    people = f"for {number_said(rng, size)} people" if size else ""
    wish = rng.choice(("great, book a table", "reserve it", "I want to make a reservation there"))
    if rng.random() < 0.5:
        script.user(f"{wish} at {time_said} {people} on {day_said}")
    else:
        script.user(wish)
        script.say("For what time?", "When should I book it?", "What time and for how many?")
        script.user(f"{time_said} {people} on {day_said}", f"on {day_said} at {time_said} {people}")
    if rng.random() < 0.7:
        script.say(f"Please confirm: {name} in {city} at {time} on {day_said}.",
                   f"You want a table at {name} on {day_said} at {time_said}, correct?"
                   )  # fmt: skip
        if rng.random() < 0.2:
            time, time_said = time_of(rng)
            script.user(f"make it {time_said} instead", f"no, at {time_said}")
        else:
            script.user("yes", "that's right", "yes, go ahead", "correct")
    is_done = rng.random() < 0.8
    script.call("reserve_restaurant", {"status": "success" if is_done else "failed"}, city=city,
                restaurant_name=name, time=time, date=day, party_size=size)  # fmt: skip
    script.say("Your table is reserved.", "It is booked.") if is_done else script.say(
        "Sorry, I could not book it.", "The reservation failed.")  # fmt: skip


# --- shop ----------------------------------------------------------------------------------------

ITEMS = ("desk lamp", "kettle", "running shoes", "backpack", "headphones", "water bottle",
         "bicycle helmet", "coffee grinder", "blue sweater", "garden hose")  # fmt: skip
REASONS = {"no_longer_needed": ("don't need it any more", "changed my mind"),
           "ordered_by_mistake": ("it was a mistake", "clicked the wrong button"),
           "damaged": ("it arrived broken", "it is scratched"),
           "late": ("it takes too long", "it is way too late")}  # fmt: skip
SHOP = [
    tool("find_user_by_email", "email"),
    tool("find_user_by_name", "name zip"),
    tool("get_user_orders", "user_id"),
    tool("get_order_details", "order_id"),
    tool("cancel_order", "order_id reason", reason=tuple(REASONS)),
    tool("return_items", "order_id item_ids refund_to", item_ids="array",
         refund_to=("card", "gift_card")),
    tool("change_address", "order_id street city zip"),
    tool("escalate_to_human", "summary"),
]  # fmt: skip


def shop(rng: random.Random) -> list[Turn]:
    """Return a conversation with the support of a shop."""
    script, person = Script(rng), rng.choice(PEOPLE)
    user_id = f"{person.split()[1].lower()}_{rng.randint(1000, 9999)}"
    order, other = (f"#W{rng.randint(10**6, 10**7 - 1)}" for _ in range(2))
    item, item_id = rng.choice(ITEMS), str(rng.randint(10**9, 10**10 - 1))
    goal = rng.choice(("cancel", "return", "address", "status", "human"))
    knows_order = rng.random() < 0.5
    of_order = f"order {order}" if knows_order else "my order"
    reason = rng.choice(tuple(REASONS))
    script.user(*{
        "cancel": (f"I want to cancel {of_order}", f"cancel {of_order} for me"),
        "return": (f"I'd like to send back the {item} from {of_order}", f"return my {item}"
                   + (f", {of_order}" if knows_order else "")),
        "address": (f"{of_order} goes to the wrong address", f"new address for {of_order}"),
        "status": (f"where is {of_order}?", f"when does {of_order} arrive?"),
        "human": ("your service is terrible, I want a person", "let me talk to a human"),
    }[goal])  # fmt: skip
    if goal == "human" and rng.random() < 0.7:
        script.call("escalate_to_human", {"ok": True},
                    summary=rng.choice(("user is angry about the service", "user wants a person",
                                        "caller asks for a human agent")))  # fmt: skip
        script.say("I hand you over to a colleague.", "A person takes over now.")
        return script.turns
    script.say("Could you give me your email, or name and zip code?", "What's your email address?")
    _identify(script, rng, person, user_id)
    if not knows_order:
        script.call("get_user_orders", {"orders": rng.sample([order, other], 2)}, user_id=user_id)
        if rng.random() < 0.5:
            script.say(f"Is it {order} or {other}?", f"You have {other} and {order}. Which one?")
            script.user(f"{order}", f"it is {order}", f"the one that begins with {order}")
    script.call("get_order_details", {"order_id": order, "status": rng.choice(("pending",
                "delivered")), "items": [{"item_id": item_id, "title": item}], "address":
                {"city": rng.choice(CITIES)}}, order_id=order)  # fmt: skip
    _reach(script, rng, goal, order, reason, (item, item_id))
    script.user("thanks, bye", "great, that is all", "thank you so much")
    script.say("You are welcome!", "Have a nice day.", "Glad to help.")
    return script.turns


def _identify(script: Script, rng: random.Random, person: str, user_id: str) -> None:
    if rng.random() < 0.5:
        first, last = person.lower().split()
        email = f"{first}.{last}{rng.randint(1, 99)}@example.com"
        script.user(f"{email}", f"my email is {email}", f"sure, {email}")
        script.call("find_user_by_email", user_id, email=email)
        return
    code = str(rng.randint(10000, 99999))
    script.user(f"{person}, {code}", f"I am {person} and my zip is {code}")
    script.call("find_user_by_name", user_id, name=person, zip=code)


def _reach(script: Script, rng: random.Random, goal: str, order: str, reason: str,
           item: tuple[str, str]) -> None:  # fmt: skip
    if goal == "cancel":
        script.say("Why do you want to cancel?", "May I ask for the reason?")
        script.user(*REASONS[reason])
        script.call("cancel_order", {"status": "cancelled"}, order_id=order, reason=reason)
        script.say("The order is cancelled.", "Done, it is cancelled.")
    elif goal == "return":
        to = rng.choice(("card", "gift_card"))
        script.say(f"Shall I refund the {item[0]} to your card or as a gift card?")
        script.user(*(("to my card", "card please") if to == "card" else ("gift card", "a voucher,"
                    " as gift card")))  # fmt: skip
        script.call("return_items", {"status": "return requested"}, order_id=order,
                    item_ids=[item[1]], refund_to=to)  # fmt: skip
        script.say("You will get a label by mail.", "The return is registered.")
    elif goal == "address":
        street = f"{rng.randint(1, 99)} {rng.choice(NAMES)} Street"
        city, code = rng.choice(CITIES), str(rng.randint(10000, 99999))
        script.say("What is the new address?", "Where should it go?")
        script.user(f"{street}, {city} {code}", f"to {street} in {city}, zip {code}")
        script.call("change_address", {"status": "changed"}, order_id=order, street=street,
                    city=city, zip=code)  # fmt: skip
        script.say("I changed the address.", "It goes to the new address now.")
    else:
        script.say("It is on its way and arrives soon.", "It was shipped yesterday.")


# --- travel --------------------------------------------------------------------------------------

CABINS = {"economy": ("economy", "the cheapest seats", "coach"), "business": ("business class",
          "business"), "first": ("first class", "first")}  # fmt: skip
TRAVEL = [
    tool("searchFlights", "origin destination departureDate", "passengers cabin",
         passengers="integer", cabin=tuple(CABINS)),
    tool("bookFlight", "flightNumber passengerName", "cabin", cabin=tuple(CABINS)),
    tool("searchHotels", "city checkIn nights", "rooms", nights="integer", rooms="integer"),
    tool("bookHotel", "hotelName checkIn nights", nights="integer"),
    tool("getWeather", "city date"),
]  # fmt: skip


def travel(rng: random.Random) -> list[Turn]:
    """Return a conversation in which a trip is planned."""
    script = Script(rng)
    origin, destination = rng.sample(AIRPORTS, 2)
    date, words = day_of(rng)
    script.turns.append(Turn("system", "You plan trips."))
    for goal in rng.sample(("flight", "hotel", "weather"), rng.choice((1, 2, 2, 3))):
        if goal == "flight":
            _flight(script, rng, origin, destination, date, words)
        elif goal == "hotel":
            _hotel(script, rng, destination, date, words)
        else:
            script.user(f"what's the weather in {destination} on {words}?",
                        f"will it rain on {words} in {destination}?")  # fmt: skip
            script.call("getWeather", city=destination, date=date)
            script.say("It will be sunny.", "Expect some rain.", "Cloudy and mild.")
    if rng.random() < 0.5:
        script.user("thank you", "perfect, bye")
        script.say("Have a good trip!", "Safe travels.")
    return script.turns


def _flight(script: Script, rng: random.Random, origin: str, destination: str, date: str,
            words: str) -> None:  # fmt: skip
    n = rng.randint(1, 5) if rng.random() < 0.5 else None
    cabin = rng.choice(tuple(CABINS)) if rng.random() < 0.4 else None
    people = f" for {number_said(rng, n)}" if n else ""
    seats = f", {rng.choice(CABINS[cabin])}" if cabin else ""
    if rng.random() < 0.6:
        script.user(f"I need a flight from {origin} to {destination} on {words}{people}{seats}",
                    f"fly me to {destination} on {words} from {origin}{people}{seats}")  # fmt: skip
    else:
        script.user(f"I want to fly to {destination}{people}{seats}")
        script.say("Where do you start, and when?", "From which city and on what day?")
        script.user(f"from {origin} on {words}", f"{words}, leaving {origin}")
    script.call("searchFlights", origin=origin, destination=destination, departureDate=date,
                passengers=n, cabin=cabin)  # fmt: skip
    flight = f"{rng.choice(('TP', 'LH', 'OS', 'BA'))}{rng.randint(100, 999)}"
    script.say(f"There is {flight} for {rng.randint(80, 700)} dollars.",
               f"{flight} leaves at {rng.randint(6, 22)}:30.")  # fmt: skip
    if rng.random() < 0.7:
        person = rng.choice(PEOPLE)
        script.user(f"book it for {person}", f"take that, the name is {person}")
        script.call("bookFlight", flightNumber=flight, passengerName=person, cabin=cabin)
        script.say(f"{flight} is booked.", "Done, have a good flight.")


def _hotel(script: Script, rng: random.Random, city: str, date: str, words: str) -> None:
    nights, hotel = rng.randint(1, 9), f"Hotel {rng.choice(NAMES)}"
    rooms = rng.randint(1, 3) if rng.random() < 0.3 else None
    more = f", {number_said(rng, rooms)} rooms" if rooms else ""
    script.user(f"find a hotel in {city} from {words} for {number_said(rng, nights)} nights{more}",
                f"I need somewhere to stay in {city}, {number_said(rng, nights)} nights, from "
                f"{words}{more}")  # fmt: skip
    script.call("searchHotels", city=city, checkIn=date, nights=nights, rooms=rooms)
    script.say(f"{hotel} has free rooms.", f"I can offer {hotel}.")
    if rng.random() < 0.6:
        script.user("book that", "yes, I take it")
        script.call("bookHotel", hotelName=hotel, checkIn=date, nights=nights)
        script.say("Your room is booked.", "Booked!")


# --- operations ----------------------------------------------------------------------------------

SERVICES = ("billing", "search", "checkout", "mailer", "gateway", "catalog", "auth", "reports")
OPERATIONS = [
    tool("list_pods", "namespace"),
    tool("read_logs", "pod", "lines", lines="integer"),
    tool("describe_pod", "pod"),
    tool("get_metrics", "service metric", metric=("cpu", "memory", "latency")),
    tool("restart_service", "service namespace"),
    tool("scale_service", "service replicas", replicas="integer"),
    tool("create_ticket", "title severity", severity=("low", "medium", "high")),
]  # fmt: skip


def operations(rng: random.Random) -> list[Turn]:
    """Return a conversation in which an agent looks into a fault alone."""
    script, service = Script(rng), rng.choice(SERVICES)
    space = rng.choice(("prod", "staging", "eu-west", "us-east"))
    fault = rng.choice(("slow", "crashing", "out of memory", "failing"))
    script.user(f"{service} in {space} is {fault}, look into it",
                f"please check {service} ({space}): {fault}",
                f"alert: {service} {fault} in namespace {space}")  # fmt: skip
    pods = [f"{service}-{rng.randrange(16**5):05x}" for _ in range(rng.randint(1, 3))]
    script.call("list_pods", "NAME STATUS\n" + "\n".join(f"{pod} {rng.choice(('Running', 'Error'))}"
                for pod in pods), namespace=space)  # fmt: skip
    for pod in pods:
        if rng.random() < 0.5:
            script.call("describe_pod", f"Name: {pod}\nRestarts: {rng.randint(0, 9)}", pod=pod)
        script.call("read_logs", rng.choice(("ERROR timeout", "OOMKilled", "panic: nil pointer",
                    "connection refused")) + f" at line {rng.randint(1, 900)}", pod=pod,
                    lines=rng.choice((None, 50, 100)))  # fmt: skip
    metric = {"slow": "latency", "out of memory": "memory"}.get(fault, "cpu")
    script.call("get_metrics", f"{metric} {rng.randint(1, 99)}%", service=service, metric=metric)
    if fault in ("slow", "out of memory"):
        n = rng.randint(2, 8)
        script.say(f"The load is high. Scale {service} to {n} replicas?")
        script.user("yes, do that", "go ahead", f"ok, {number_said(rng, n)} are fine")
        script.call("scale_service", "scaled", service=service, replicas=n)
    else:
        script.call("restart_service", "restarted", service=service, namespace=space)
    if rng.random() < 0.4:
        level = rng.choice(("low", "medium", "high"))
        script.user(f"open a ticket too, {level} severity", f"file this as {level}")
        script.call("create_ticket", f"OPS-{rng.randint(100, 999)}", severity=level,
                    title=f"{service} {fault} in {space}")  # fmt: skip
    script.say(f"{service} is stable again.", "Fixed. I keep an eye on it.", "It runs as usual.")
    return script.turns


SERVICE: dict[str, tuple[list[dict[str, Any]], Callable[[random.Random], list[Turn]]]] = {
    "restaurant": (RESTAURANT, restaurant),
    "shop": (SHOP, shop),
    "travel": (TRAVEL, travel),
    "operations": (OPERATIONS, operations),
}
"""Name to tools, and what makes a conversation."""

# --- clinic --------------------------------------------------------------------------------------

FIELDS = ("cardiology", "dermatology", "neurology", "orthopedics", "pediatrics")
SYMPTOMS = ("a rash", "chest pain", "a sore knee", "headaches", "a cough", "back pain", "dizziness")
DOCTORS = tuple(f"Dr. {last}" for last in ("Okafor", "Lindqvist", "Moreau", "Petrov", "Sato",
                "Almeida", "Weber", "Rossi", "Nguyen", "Kowalski"))  # fmt: skip
PLACES = ("first", "second", "third")
CLINIC = [
    tool("patient_lookup", "birth_date last_name"),
    tool("doctors_by_field", "field", field=FIELDS),
    tool("open_slots", "doctor_id day"),
    tool("book_slot", "slot_id patient_id is_first_visit", "symptoms", is_first_visit="boolean",
         symptoms="array"),
    tool("send_reminder", "patient_id hours_before channel", hours_before="integer",
         channel=("sms", "email", "phone")),
]  # fmt: skip


def clinic(rng: random.Random) -> list[Turn]:
    """Return a conversation in which a visit is booked; the patient and the doctors come first."""
    script, person, field = Script(rng), rng.choice(PEOPLE), rng.choice(FIELDS)
    (day, day_said), (_, born_said) = day_of(rng), day_of(rng)
    year = rng.randint(1940, 2015)
    month = MONTHS.index(next(m for m in MONTHS if m in born_said.lower())) + 1
    born = f"{year}-{month:02d}-{int(''.join(filter(str.isdigit, born_said))):02d}"
    last = person.split()[1]
    script.user(f"I need an appointment in {field}", f"book me a {field} visit",
                f"can I see someone from {field}?")  # fmt: skip
    script.say("What is your last name and date of birth?", "Your last name and birthday, please?")
    script.user(f"{last}, born {born_said}, {year}", f"{last}. {born_said}, {year}")
    patient, doctors = f"P-{rng.randint(10000, 99999)}", rng.sample(DOCTORS, 3)
    ids = [f"d{rng.randint(100, 999)}" for _ in doctors]
    calls = (Call(f"call_{len(script.turns)}a", "patient_lookup",
                  json.dumps({"birth_date": born, "last_name": last})),
             Call(f"call_{len(script.turns)}b", "doctors_by_field",
                  json.dumps({"field": field})))  # fmt: skip
    script.turns.append(Turn("assistant", "", calls))
    listed = [{"doctor": {"id": id, "name": name}} for id, name in zip(ids, doctors, strict=True)]
    for call, found in zip(calls, ({"patient": {"id": patient, "name": person}}, listed),
                           strict=True):  # fmt: skip
        script.turns.append(Turn("tool", json.dumps(found), result_of=call.id))
    script.say(f"There are {', '.join(doctors)}. Whom, and on which day?")
    chosen = rng.randrange(3)
    script.user(f"{doctors[chosen]}, {day_said}", f"the {PLACES[chosen]} one, on {day_said}",
                f"on {day_said} with {doctors[chosen].removeprefix('Dr. ')}")  # fmt: skip
    hours = sorted(rng.sample(range(8, 18), 3))
    slots = [{"slot": f"s{rng.randint(10**5, 10**6 - 1)}",
              "at": f"{hour:02d}:{rng.choice((0, 30)):02d}"} for hour in hours]  # fmt: skip
    script.call("open_slots", {"open": slots}, doctor_id=ids[chosen], day=day)
    script.say(f"Free are {slots[0]['at']}, {slots[1]['at']} and {slots[2]['at']}.",
               f"I have {', '.join(slot['at'] for slot in slots)}.")  # fmt: skip
    place = rng.randrange(3)
    slot = slots[place]
    script.user(f"{slot['at']}", f"the {PLACES[place]}", f"at {slot['at']} please")
    script.say("Is it your first visit, and what brings you here?")
    is_first, named = rng.random() < 0.5, rng.sample(SYMPTOMS, rng.choice((0, 1, 1)))
    script.user(f"{'yes, my first' if is_first else 'no, I have been there'}"
                f"{', because of ' + named[0] if named else ''}")  # fmt: skip
    script.call("book_slot", {"booked": True}, slot_id=slot["slot"], patient_id=patient,
                is_first_visit=is_first, symptoms=named or None)  # fmt: skip
    script.say(f"You are booked with {doctors[chosen]} at {slot['at']}.", "It is booked.")
    if rng.random() < 0.6:
        hours, channel = rng.choice((2, 12, 24, 48)), rng.choice(("sms", "email", "phone"))
        script.user(f"send me a reminder by {channel} {hours} hours before",
                    f"can you remind me {hours} hours ahead, {channel}?")  # fmt: skip
        script.call("send_reminder", {"ok": True}, patient_id=patient, hours_before=hours,
                    channel=channel)  # fmt: skip
        script.say("I will remind you.", "The reminder is set.")
    return script.turns


# --- courier -------------------------------------------------------------------------------------

ADDRESS = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("street", "city", "zip")},
    "required": ["street", "city", "zip"],
}
EXTRAS = {
    "type": "object",
    "properties": {"express": {"type": "boolean"}, "insured_for": {"type": "integer"}},
    "required": ["express"],
}
CHANNELS = ("sms", "email", "phone")
COURIER = [
    tool("find_sender", "name"),
    tool("create_shipment", "sender_id address items", "extras", address=ADDRESS,
         items={"type": "array", "items": {"type": "string"}}, extras=EXTRAS),
    tool("notify_sender", "shipment_id channels",
         channels={"type": "array", "items": {"type": "string", "enum": [*CHANNELS]}}),
]  # fmt: skip


def listed(texts: Sequence[str]) -> str:
    """Return texts with commas and "and" between them."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last


def courier(rng: random.Random) -> list[Turn]:
    """Return a conversation in which a parcel is sent: an address, and a list of things."""
    script, person = Script(rng), rng.choice(PEOPLE)
    things = rng.sample(ITEMS, rng.randint(1, 3))
    script.user(f"I want to send {listed(things)}", f"please ship {listed(things)}",
                f"a parcel with {listed(things)}, please pick it up")  # fmt: skip
    script.say("Who sends it?", "What is your name?")
    script.user(f"{person}", f"I am {person}", f"it is {person}")
    sender = f"C{rng.randint(1000, 9999)}"
    script.call("find_sender", {"sender": {"id": sender, "name": person}}, name=person)
    script.say("Where does it go?", "What is the address?")
    street = f"{rng.randint(1, 99)} {rng.choice(NAMES)} Street"
    city, code = rng.choice(CITIES), str(rng.randint(10000, 99999))
    script.user(f"{street}, {city} {code}", f"to {street} in {city}, zip {code}")
    script.say("Shall it be express, or insured?", "Express? Insured?")
    value, kind = 50 * rng.randint(1, 20), rng.choice(("", "express", "insured", "both"))
    script.user(*{
        "": ("no, just normal", "neither", "no thanks"),
        "express": ("express please", "yes, express", "as fast as you can"),
        "insured": (f"insured for {value} dollars", f"not express, but insured for {value}"),
        "both": (f"express, and insured for {value}", f"both, it is worth {value} dollars"),
    }[kind])  # fmt: skip
    extras: dict[str, Any] | None = None
    if kind == "express":
        extras = {"express": True}
    if kind in ("insured", "both"):
        extras = {"express": kind == "both", "insured_for": value}
    shipment = f"S{rng.randint(10**5, 10**6 - 1)}"
    script.call("create_shipment", {"shipment": {"id": shipment, "state": "booked"}},
                sender_id=sender, address={"street": street, "city": city, "zip": code},
                items=things, extras=extras)  # fmt: skip
    script.say(f"Your shipment is {shipment}.", f"Booked as {shipment}.")
    if rng.random() < 0.6:
        ways = rng.sample(CHANNELS, rng.randint(1, 2))
        script.user(f"tell me by {listed(ways)} when it arrives", f"notify me: {listed(ways)}")
        script.call("notify_sender", {"ok": True}, shipment_id=shipment, channels=ways)
        script.say("I will let you know.", "You will hear from us.")
    return script.turns


REPORTED = {"clinic": (CLINIC, clinic), "courier": (COURIER, courier)}
"""Services that are measured alone: nothing is chosen by them."""
OTHERS: dict[str, tuple[str, ...]] = {
    "CITIES": ("Fresno", "Santa Rosa", "Modesto", "Daly City", "Union City", "Vallejo", "Gilroy"),
    "AIRPORTS": ("Berlin", "Paris", "Seville", "Naples", "Riga", "San Diego", "Buenos Aires"),
    "CUISINES": ("Ethiopian", "Korean", "Turkish", "Peruvian", "Vietnamese", "Moroccan"),
    "NAMES": tuple(f"{first} {last}" for first in ("Silver", "Hidden", "Tall", "Crooked")
                   for last in ("Spoon", "Lantern", "Orchard", "Pavilion", "Cellar")),
    "PEOPLE": ("Ingrid Berg", "Luca Ferrari", "Hana Suzuki", "Amir Rahimi", "Zoe Martin"),
    "ITEMS": ("phone case", "tent", "office chair", "rain jacket", "toaster", "yoga mat"),
    "SERVICES": ("payments", "inventory", "notifier", "ledger", "frontend", "sessions"),
    "SYMPTOMS": ("a fever", "a swollen ankle", "itchy skin", "fatigue", "palpitations"),
    "DOCTORS": tuple(f"Dr. {last}" for last in ("Haas", "Duarte", "Novotny", "Chen", "Byrne")),
}  # fmt: skip
"""Values of names, places and things that no training conversation has."""


def conversations(name: str, n: int, seed: int, *, others: bool = False) -> list[list[Turn]]:
    """Return conversations of a service, with other values than usual where that is asked for."""
    made, known = (SERVICE | REPORTED)[name][1], dict(globals())
    rng = random.Random(f"{name}-{seed}")
    try:
        globals().update(OTHERS if others else {})
        return [made(rng) for _ in range(n)]
    finally:
        globals().update({key: known[key] for key in OTHERS})
