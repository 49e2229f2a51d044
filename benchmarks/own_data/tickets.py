"""Support tickets with one of eight labels: what is wanted, beside what is only mentioned.

Two in five mention a second matter in passing ("In May I wrote because …, and that is solved."), in
the very words of another label: words alone do not tell which of the two is wanted.
"""

from __future__ import annotations

import random

_MENTION_SHARE = 0.4

LABELS = {
    "billing": (
        ("I do not understand", "Please explain", "Nobody could tell me", "We dispute",
         "Kindly correct", "Something is wrong with", "My accountant asks about"),
        ("the {amount} on the statement for {month}", "why {month} is on our card twice",
         "the tax number on the last invoice", "the tariff that we are on since the {day}",
         "the missing discount on the {item}", "what we pay for the {app} each month",
         "the second entry of {amount}", "how the total for {month} comes about"),
    ),
    "refund": (
        ("I am still waiting for", "When do I get", "I ask you for", "You promised me",
         "Nobody has sent me", "Please arrange", "I insist on"),
        ("the {amount} that I paid for the {item}", "my money, the {item} went back on the {day}",
         "the difference, it was cheaper in {month}", "the full price of what never worked",
         "a reversal of the charge of the {day}", "{amount} back instead of store credit",
         "the sum for the {item} that I returned", "what I overpaid in {month}"),
    ),
    "login": (
        ("Since the {day}", "On my new phone", "Again this morning", "After the update",
         "For a colleague of mine", "As so often", "With the right credentials"),
        ("the code that should let me in never comes", "the {app} says my account is blocked",
         "I am asked for a passphrase that I never set", "nobody gets past the first page",
         "the mail with the link has expired before I see it", "I am locked out of the {app}",
         "the second factor is refused", "I end up where I typed my name"),
    ),
    "bug": (
        ("Since the {day}", "On my new tablet", "Again this morning", "After the update",
         "Whenever I open an order", "As so often", "With the French keyboard"),
        ("the {app} closes by itself", "every date is one day early", "the exported file is empty",
         "the total is not the sum of its lines", "pressing save does nothing at all",
         "a word with an accent is not found", "pictures are upside down in the {app}",
         "each notice comes three times"),
    ),
    "feature": (
        ("It would help us if", "Have you thought of a way that", "We would pay {amount} more if",
         "Could you make it so that", "Is it planned that", "My team wishes that",
         "Life would be easier if"),
        ("orders were grouped by customer", "the {app} came with a dark theme",
         "one could sort by date of delivery", "all invoices were one download",
         "two people could work on one order", "the {app} spoke French",
         "a return could be booked from the list", "one click ended all sessions"),
    ),
    "shipping": (
        ("Where is", "Nobody here has seen", "The courier cannot find", "I took a day off for",
         "Tracking has stopped for", "A neighbour may have", "Please find"),
        ("the {item} that was to come on the {day}", "the parcel with my {item}",
         "the second of two boxes", "what left your store in {month}",
         "the {item}, sent to our old address", "the package that came open and half empty",
         "my order of the {day}", "the {item} that you replaced"),
    ),
    "cancel": (
        ("Please stop", "I no longer want", "Kindly end", "We do not renew", "How do I get out of",
         "Confirm the end of", "Take me out of"),
        ("our yearly plan in {month}", "the order of the {item}, which has not left yet",
         "the {app} at the end of {month}", "my account and all that you know of me",
         "the trial before the {day}", "what I signed up for by mistake",
         "the subscription, we close the business", "the monthly box from {month} on"),
    ),
    "praise": (
        ("I just want to say that", "Tell your team that", "For once no complaint:",
         "I am glad that", "You should know that", "My boss agrees that", "It is rare that"),
        ("the {app} has become so fast", "the {item} is better than I hoped",
         "{amount} were sorted out in minutes", "somebody listens and solves it at once",
         "the parcel came a day early", "moving to the {app} was so easy",
         "the new invoice is clear at last", "your colleague found the {item} for me"),
    ),
}  # fmt: skip
MENTIONED = (
    "In {month} I wrote because {other}, and that is solved.",
    "This is not about the other matter: {other}.",
    "A colleague of mine wrote to you: {other}. Please leave that alone.",
    "By the way, {other}, but we found out why.",
    "You may remember me: {other}. Today it is something else.",
)
OPENINGS = (
    "Hello,", "Hi there,", "Dear team,", "Good morning,", "", "Hey,", "To whom it may concern,",
)  # fmt: skip
CLOSINGS = (
    "Thanks.", "Regards, {name}", "Please hurry.", "", "Best, {name}", "Sent from my phone", "",
)  # fmt: skip
WORDS = {
    "amount": ("$12.90", "$249", "€39.99", "89 euros", "$5", "£120"),
    "month": ("January", "March", "May", "July", "September", "November"),
    "day": ("2nd", "9th", "14th", "21st", "27th", "30th"),
    "item": ("lamp", "keyboard", "office chair", "headset", "printer", "coffee machine", "jacket"),
    "app": ("app", "dashboard", "web shop", "mobile version", "editor"),
    "name": ("Kim", "A. Okafor", "Lena", "J. Duarte", "Priya", "Tom"),
}


def tickets(seed: int = 0, n_per_label: int = 38) -> list[dict[str, str]]:
    """Return tickets, as many of each label."""
    rng = random.Random(seed)
    seen: set[str] = set()
    rows = []
    for label, halves in LABELS.items():
        n = 0
        while n < n_per_label:
            parts = [" ".join(rng.choice(half) for half in halves) + "."]
            if rng.random() < _MENTION_SHARE:
                second = rng.choice([name for name in LABELS if name != label])
                matter = " ".join(rng.choice(half) for half in LABELS[second])
                matter = matter if matter.startswith("I ") else matter[0].lower() + matter[1:]
                mention = rng.choice(MENTIONED).replace("{other}", matter)
                parts.insert(rng.randrange(2), mention)
            parts = [rng.choice(OPENINGS), *parts, rng.choice(CLOSINGS)]
            words = {name: rng.choice(choices) for name, choices in WORDS.items()}
            text = " ".join(part.format(**words) for part in parts if part)
            if text not in seen:
                seen.add(text)
                rows.append({"text": text, "label": label})
                n += 1
    rng.shuffle(rows)
    return rows
